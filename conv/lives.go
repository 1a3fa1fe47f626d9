package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The conversations that a shard holds in memory, as a list by last use whose
// weight is bounded. Any of them can be forgotten between two batches: it is
// loaded again when the next request comes.

// settleAfter is how many entries behind the snapshot a load may find, before what
// follows from them is written at once: else who loads a conversation again and again,
// and never gets to write a snapshot, would find ever more.
const settleAfter = 128

// settleTail writes all that follows from a long tail.
func (s *shard) settleTail(ctx context.Context, l *live) error {
	if !l.stale || l.last-l.snapshot <= settleAfter {
		return nil
	}
	g := &group{conv: l}
	g.finish()
	if err := s.store.Commit(context.WithoutCancel(ctx), []*store.Write{&g.write}, store.Durable); err != nil {
		return err
	}
	s.settled(g)
	return nil
}

// conversation returns the state of id, loading it if need be.
func (s *shard) conversation(ctx context.Context, id pim.ConversationID) (*live, error) {
	l := s.lives[id]
	if l != nil && l.batch != nil {
		return l, nil // used in this batch already
	}
	if l == nil {
		var err error
		if l, err = s.load(ctx, id); err != nil {
			return nil, err
		}
		if s.refusal == nil {
			if err = s.settleTail(ctx, l); err != nil {
				return nil, err
			}
		}
		s.metrics.Loads.Inc()
		s.lives[id] = l
	} else {
		s.unlink(l)
	}
	s.link(l)
	s.weighAgain(l)
	if l.due(snapshotEvery) {
		g := s.group(l)
		g.snapshot = l.last
		g.write.Cells = append(g.write.Cells, l.snapshotCell())
	}
	return l, nil
}

// weighAgain counts what l weighs, if it can have changed by much: an entry may bring
// a sender and some bytes, and one alone may bring all members of a group or a large
// setting. It is called before and after each batch, so that who writes once and never
// again is counted with what he wrote, and after a look-up that has remembered many IDs.
func (s *shard) weighAgain(l *live) {
	const entries = 16
	bulk := l.bulk()
	if l.weight != 0 && l.last-l.weighed < min(entries, l.weighed+1) && bulk == l.bulkWeighed {
		return
	}
	cost := l.cost()
	s.weight += cost - l.weight
	l.weight, l.weighed, l.bulkWeighed = cost, l.last, bulk
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
	var snapshots []*store.Write
	for s.weigh() > s.memory && s.weight > s.part && s.oldest != s.newest {
		if s.oldest.due(evictedEvery) {
			snapshots = append(snapshots, &store.Write{Cells: []store.CellWrite{s.oldest.snapshotCell()}})
		}
		s.forget(s.oldest)
	}
	if len(snapshots) > 0 && s.refusal == nil {
		// Without them loads take longer, that is all.
		_ = s.store.Commit(context.WithoutCancel(s.ctx), snapshots, store.Relaxed)
	}
	s.metrics.Live.Add(float64(len(s.lives) - s.shown))
	s.shown = len(s.lives)
}

// weigh returns what the conversations of all shards weigh.
func (s *shard) weigh() int {
	grown := s.weight - s.weighed
	all := s.liveWeight.Add(int64(grown))
	s.weighed = s.weight
	s.metrics.Weight.Add(float64(grown))
	return int(all)
}
