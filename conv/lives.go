package conv

import (
	"context"

	"github.com/pim-im/pim"
)

// The conversations that a shard holds in memory, as a list by last use whose
// weight is bounded. Any of them can be forgotten between two batches: it is
// loaded again when the next request comes.

// conversation returns the state of id, loading it if need be.
func (s *shard) conversation(ctx context.Context, id pim.ConversationID, now pim.Millis) (*live, error) {
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
			if err = l.settleGone(ctx, s.store, now); err != nil {
				return nil, err
			}
		}
		s.metrics.Loads.Inc()
		s.lives[id] = l
	} else {
		s.unlink(l)
	}
	l.older, s.newest = s.newest, l
	if l.older != nil {
		l.older.newer = l
	} else {
		s.oldest = l
	}
	cost := l.cost()
	s.weight += cost - l.weight
	l.weight = cost
	return l, nil
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

// shrink forgets those not used for the longest time until the rest is within
// bounds. Called between batches only: in a batch, states are in use.
func (s *shard) shrink() {
	for s.weight > s.bound && s.oldest != s.newest {
		s.forget(s.oldest)
	}
	s.metrics.Live.Set(float64(len(s.lives)))
}
