package conv

import (
	"context"

	"github.com/pim-im/pim"
)

// The conversations that a shard holds in memory, as a list by last use whose
// weight is bounded. Any of them can be forgotten between two batches: it is
// loaded again when the next request comes.

// conversation returns the state of id, loading it if need be.
func (s *shard) conversation(ctx context.Context, id pim.ConversationID) (*live, error) {
	l := s.lives[id]
	if l != nil && l.batch != nil {
		return l, nil // used in this batch already
	}
	if l == nil {
		var err error
		if l, err = load(ctx, s.store, id, s.members); err != nil {
			return nil, err
		}
		if s.refusal == nil {
			if err = l.settleGone(ctx, s.store); err != nil {
				return nil, err
			}
		}
		s.metrics.Loads.Inc()
		s.lives[id] = l
	} else {
		s.unlink(l)
	}
	s.link(l)
	cost := l.cost()
	s.weight += cost - l.weight
	l.weight = cost
	return l, nil
}

// drop forgets l if it has no log and will get none from the batch being made: names
// that somebody made up push nothing out of memory.
func (s *shard) drop(l *live) {
	if l.last == 0 && l.batch == nil {
		s.forget(l)
	}
}

// link makes l the one used last.
func (s *shard) link(l *live) {
	l.older, s.newest = s.newest, l
	if l.older != nil {
		l.older.newer = l
	} else {
		s.oldest = l
	}
}

func (s *shard) unlink(l *live) {
	if l.newer != nil {
		l.newer.older = l.older
	} else {
		s.newest = l.older
	}
	if l.older != nil {
		l.older.newer = l.newer
	} else {
		s.oldest = l.newer
	}
	l.newer, l.older = nil, nil
}

func (s *shard) forget(l *live) {
	s.unlink(l)
	s.weight -= l.weight
	delete(s.lives, l.id)
}

// shrink forgets those not used for the longest time while all shards together hold
// more than they may, and this one more than its part. One that needs more, since the
// busy conversations are its, has what the others leave. Called between batches only:
// in a batch, states are in use.
func (s *shard) shrink() {
	for s.weigh() > liveBound && s.weight > s.part && s.oldest != s.newest {
		s.forget(s.oldest)
	}
	s.metrics.Live.Add(float64(len(s.lives) - s.shown))
	s.shown = len(s.lives)
}

// weigh returns what the conversations of all shards weigh.
func (s *shard) weigh() int {
	all := s.liveWeight.Add(int64(s.weight - s.weighed))
	s.weighed = s.weight
	return int(all)
}
