package conv

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim/store"
)

// A conversation in which nothing happens for a while gets a snapshot, although it stays in memory. So do
// those in memory when the Writers are closed at rest. Who loads it later, after a restart or a crash, or on another
// node, finds nothing behind the snapshot that would have to be read, and nothing that would have to be
// written again.

const (
	// restAfter is for how long nothing must happen.
	restAfter = 10 * time.Second

	// A driver looks every restPass, or after restPause if more are due than restAtOnce, so that very
	// many conversations that come to rest together hold up nobody.
	restPass   = 5 * time.Second
	restPause  = 50 * time.Millisecond
	restAtOnce = 64

	// restAtClose is how many conversations get a snapshot when the Writers are closed at rest, at most: those that
	// were used last. So many take half a second or so. After restWithin no more begin, and nobody waits for those under way.
	restAtClose = 16 << 10
	restWithin  = time.Second
)

// resting says which machines of a driver are at rest. They are the older part of the list of all.
type resting struct {
	newest *machine    // all up to this one are at rest, and have their snapshots; nil: none
	timer  *time.Timer // fires when it is time to look
	set    bool        // timer will fire
	due    bool        // it has fired
}

// left takes note that m leaves its place in the list.
func (r *resting) left(m *machine) {
	if r.newest == m {
		r.newest = m.older
	}
}

// rest writes the snapshots that are due of the machines that have come to rest, if it is time to
// look, and sets the timer if there are machines that may come to rest.
func (d *driver) rest(v *view) {
	r, found := &d.resting, 0
	next := func() *machine {
		if r.newest == nil {
			return d.oldest
		}
		return r.newest.newer
	}
	m := next()
	for r.due && v.closed == nil && m != nil && found < restAtOnce && d.turned.Sub(m.used) >= restAfter {
		if d.restOne(m) {
			found++
		}
		r.newest = m
		m = next()
	}
	if r.due = false; m == nil || r.set {
		return
	}
	r.set = true
	wait := restPass
	if found == restAtOnce {
		wait = restPause
	}
	r.timer.Reset(max(wait, restAfter-d.turned.Sub(m.used)))
}

// restOne puts the snapshot of m among what is written later, if it is due and m is idle. It reports whether
// it does.
func (d *driver) restOne(m *machine) bool {
	if m.busy() || m.live == nil || !m.live.snapshotDue(restedEvery) {
		return false
	}
	d.snap(m)
	return true
}

// snapLong puts the snapshot of m among what is written later, if m is idle and much stands behind its last one.
func (d *driver) snapLong(m *machine, v *view) {
	if v.closed == nil && !m.busy() && m.live != nil && m.live.tailLong() {
		d.snap(m)
	}
}

// snap puts the snapshot of m, which is idle and may have one, among what is written later.
func (d *driver) snap(m *machine) {
	d.out.later = append(d.out.later, m.live.snapshotWrite())
	m.weighed = 0 // less of it is in memory now
	d.weighAgain(m)
}

// restAll writes the snapshots that are due when the driver stops, of most conversations at most, restAtOnce at a time,
// until one cannot be written. It takes restWithin at most.
func (d *driver) restAll(ctx context.Context, most int) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), restWithin)
	defer cancel()
	for m := d.newest; m != nil && most > 0 && d.gate() == nil && within.Err() == nil; {
		for ; m != nil && most > 0 && len(d.out.later) < restAtOnce; m = m.older {
			if d.restOne(m) {
				most--
			}
		}
		if !d.writeAll(within) {
			return
		}
	}
}

// writeAll begins the writes for whose outcome nobody waits, and then waits for their outcome until ctx ends. It reports whether all is written.
// The outcome of a write that the store has not ended by then is dropped when it comes: the writes are the store's until then, and this driver
// does not use them any more.
func (d *driver) writeAll(ctx context.Context) bool {
	writes := d.out.later
	if d.out.later = nil; len(writes) == 0 {
		return true
	}
	var failed atomic.Bool
	var left atomic.Int64
	left.Store(int64(len(writes)))
	ended := make(chan struct{})
	d.store.Begin(ctx, writes, store.Relaxed, func(w *store.Write) {
		if w.Err != nil {
			failed.Store(true)
		}
		if left.Add(-1) == 0 {
			close(ended)
		}
	})
	select {
	case <-ended:
		return !failed.Load()
	case <-ctx.Done():
		return false
	}
}
