package conv

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// A node that takes conversations over from another one loads the busy ones before their first requests come: Recent
// says at the old node which these are, and Warm loads them at the new one. The old node goes on writing for a while,
// so nobody knows whether a state that was loaded so is still the newest when its first request comes. Then one read
// brings it forward: that of the log's end, with the entries that were written since.

const (
	// recentFor is for how long a conversation that nobody uses any more counts as recent.
	recentFor = 5 * time.Minute
	// recentLooks is how many conversations of one driver Recent looks at.
	recentLooks = 1 << 15

	// warmAtOnce is how many loads one call of Warm has under way.
	warmAtOnce = 32
	// warmShare is the part of Options.Memory up to which Warm fills it: one in so many. What is used for a first time
	// meanwhile has the rest, so Warm pushes nothing out of memory.
	warmShare = 2

	// forwardMost is how many entries bring a state forward at most. Behind a snapshot, which a load begins with, there
	// are about as many.
	forwardMost = snapshotEvery
)

// recent is a conversation that a driver has in memory, and when it was used last.
type recent struct {
	id   pim.ConversationID
	used time.Time
}

// Recent returns conversations that were used in the last minutes and are in memory, those for which keep returns
// true, the one used last first, at most so many. If ctx ends or the Writers are closed before all drivers have said
// what they have, it returns what is known. keep is called in the caller's goroutine.
func (w *Writers) Recent(ctx context.Context, keep func(pim.ConversationID) bool, most int) []pim.ConversationID {
	said := make(chan []recent, len(w.drivers))
	for _, d := range w.drivers {
		d.in.ask(said)
	}
	var all []recent
	for range w.drivers {
		select {
		case some := <-said:
			all = append(all, some...)
			continue
		case <-ctx.Done():
		case <-w.ctx.Done():
		}
		break
	}
	slices.SortStableFunc(all, func(a, b recent) int { return b.used.Compare(a.used) })
	var ids []pim.ConversationID
	for _, r := range all {
		if len(ids) == most {
			break
		}
		if keep(r.id) {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// recent returns what was used last of what d has in memory, the newest first.
func (d *driver) recent() (some []recent) {
	looks := 0
	for m := d.newest; m != nil && looks < recentLooks && d.turned.Sub(m.used) < recentFor; m = m.older {
		if m.live != nil && !m.live.warmed {
			some = append(some, recent{m.id, m.used})
		}
		looks++
	}
	return some
}

// Warm loads conversations before anything asks for them, in the order given, and writes nothing. It passes over those
// without a log, and ends early when half of Options.Memory is full, when ctx ends or when the Writers are closed. A load that
// fails is only a conversation that is not loaded. It returns how many were loaded. The caller must not
// close the store before Warm has returned.
func (w *Writers) Warm(ctx context.Context, ids []pim.ConversationID) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	var (
		mu      sync.Mutex // guards next and loaded
		next    int
		loaded  int
		loaders sync.WaitGroup
	)
	for range min(warmAtOnce, len(ids)) {
		loaders.Go(func() {
			for ctx.Err() == nil && w.liveWeight.Load() < int64(w.memory/warmShare) {
				mu.Lock()
				if next == len(ids) {
					mu.Unlock()
					return
				}
				id := ids[next]
				next++
				mu.Unlock()
				l, err := w.load(ctx, id)
				if err != nil || l.last == 0 {
					continue
				}
				l.warmed = true
				w.driver(id).in.warmed(l)
				mu.Lock()
				loaded++
				mu.Unlock()
			}
		})
	}
	loaders.Wait()
	return loaded
}

// takeWarmed takes a state that Warm has loaded, unless the conversation has been asked for meanwhile, or the state has no room.
func (d *driver) takeWarmed(l *live) {
	if d.machines[l.id] != nil || d.weigh()+machineBytes+l.cost() > d.memory/warmShare {
		return
	}
	m := d.machine(l.id)
	m.live = l
	d.weighAgain(m)
	d.metrics.Warmed.Inc()
}

// loadFrom is load, for which old is what Warm has loaded before, nil if it has not. It returns old if that could be
// brought forward.
func (w *Writers) loadFrom(ctx context.Context, id pim.ConversationID, old *live) (*live, error) {
	if old != nil {
		switch ok, err := old.bringForward(ctx, w.store); {
		case err != nil:
			return nil, err
		case ok:
			return old, nil
		}
	}
	return w.load(ctx, id)
}

// bringForward moves l, which was loaded before, to the log's end, with one read. It returns false, and leaves l as it was, if the entries
// that were written since are too many or say more than messages and positions do, or if another log's entry has
// meant something for this one.
func (l *live) bringForward(ctx context.Context, s store.Store) (ok bool, err error) {
	reads := []store.Read{{
		Log: inbox.Entries(l.id), WithLast: true,
		From: l.last + 1, Limit: store.Limit{Records: forwardMost, Bytes: pim.MaxPageBytes},
	}}
	if err := s.Read(ctx, reads); err != nil {
		return false, err
	}
	r := &reads[0]
	if r.Fence != l.fence || r.Last < l.last || r.Front > l.last+1 || r.Last > l.last+pim.Seq(len(r.Records)) || l.mixed {
		return false, nil
	}
	tail, size, err := parseRecords(l.id, r.First, r.Records[:r.Last-l.last], nil)
	if err != nil || slices.ContainsFunc(tail, func(e pim.Entry) bool { return !isPlain(&e) }) {
		return false, err
	}
	l.warmed = false
	l.front = r.Front
	l.dropTrimmedPins(r.Front)
	if len(tail) == 0 {
		return true, nil
	}
	l.stale, l.behind = true, l.behind+size
	if l.id.IsGroup() {
		l.loaded = make(marks, len(l.present))
		for i, u := range l.present {
			l.loaded[u] = l.standingAt(i)
		}
	}
	l.ids.Grow(len(tail))
	for i := range tail {
		l.take(&tail[i])
	}
	l.setMarks()
	return true, nil
}

// isPlain reports whether nothing has to be read for take to take e.
func isPlain(e *pim.Entry) bool {
	switch e.Kind {
	case pim.EntryMessage:
		return true
	case pim.EntryCommand:
		cmd, err := wire.DecodeCommand(e.Payload)
		return err == nil && cmd.Kind == pim.CommandRead
	}
	return false
}
