package conv

import "time"

// A conversation in which nothing happens for a while gets a snapshot, although it stays in memory.
// Who loads it later, after a restart or a crash, or on another node, finds nothing behind the snapshot
// that would have to be read, and nothing that would have to be written again.

const (
	// restAfter is for how long nothing must happen.
	restAfter = time.Minute
	// restedEvery is used in place of snapshotEvery then. So messages that come one a minute have a
	// snapshot for each 24 of them, not for each.
	restedEvery = 24

	// A driver looks every restPass, or after restPause if more are due than restAtOnce, so that very
	// many conversations that come to rest together hold up nobody.
	restPass   = 5 * time.Second
	restPause  = 50 * time.Millisecond
	restAtOnce = 64
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
		if l := m.live; !m.busy() && l != nil && l.last-m.rested >= restedEvery && l.snapshotDue(restedEvery) {
			d.out.later = append(d.out.later, l.snapshotWrite()) // if it is lost, the next load takes longer
			m.rested, m.weighed = l.last, 0                      // less of it is in memory now
			d.weighAgain(m)
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
