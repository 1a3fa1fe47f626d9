package conv

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
)

// While sends are shed (limit.NewSends), a driver takes as many requests as it can answer soon, and refuses
// the others before they wait. What is sent again may be in the log already, and must get the answer of the first
// time. So it goes to the driver all the same: if the conversation is in memory, and remembers its client message ID, it is
// answered, at the cost of one entry to read. Otherwise nobody can tell without reading more, and it
// is refused like the others. It is sent again later, and finds its entry then.

// errBusy returns the error of a request that is shed.
func (w *Writers) errBusy() error {
	return &pim.Error{Kind: limit.Busy.Kind(), Text: limit.Busy.Text(), RetryAfter: w.overload.After(), Err: overload}
}

// full reports whether requests that are not sent again would be shed now, all of them.
func (a *arrivals) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unanswered >= a.backlog.Most(a.writers.overload.Patience())
}

// shed divides requests into those that are taken while others are shed, and the others. They get err. One
// user takes a part of what is taken, as ever. a.mu is held.
func (a *arrivals) shed(requests []*Request) (taken, refused []*Request, err error) {
	o := a.writers.overload
	most := a.backlog.Most(o.Patience())
	room, again := most-a.unanswered, 2*most-a.unanswered
	var sender pim.UserID
	free := 0 // of the sender's share
	for i, r := range requests {
		if i == 0 || r.Sender != sender {
			sender = r.Sender
			free = most/queueShare - a.users.get(sender).requests
		}
		switch {
		case min(room, free) > 0:
			room--
			free--
			taken = append(taken, r)
		case r.Attempt > 1 && again > 0:
			r.repeatOnly = true
			taken = append(taken, r)
		default:
			refused = append(refused, r)
			continue
		}
		again--
	}
	if len(refused) > 0 {
		o.Shed(limit.NewSends, len(refused))
		err = a.writers.errBusy()
	}
	return taken, refused, err
}

// served counts the requests that have got their entry. a.mu is held.
func (a *arrivals) served(answers []Answer) {
	o := a.writers.overload
	if o == nil {
		return
	}
	n := 0
	for i := range answers {
		if answers[i].Err == nil {
			n++
		}
	}
	o.Served(n)
	a.backlog.Served(n, time.Since(a.writers.begun))
}

// waited tells for how long what has come in has waited. If the store has been silent for long with
// writes under way, these have waited at least as long.
func (d *driver) waited(in *arrived, now time.Time) {
	if len(in.requests) == 0 || d.overload == nil {
		return
	}
	d.overload.Waited(limit.Arrivals, now.Sub(in.since))
	if silent := now.Sub(d.gather.heard); d.gather.writing > 0 && len(in.written) == 0 && silent > limit.OverloadInterval {
		d.overload.Waited(limit.Commits, silent)
	}
}

// knows reports whether the entry of r, which is sent again, is in the log, if that can be said without
// reading anything.
func (d *driver) knows(r *Request) bool {
	m := d.machines[r.Conversation]
	return m != nil && m.lookup == nil && m.live != nil && !m.live.warmed && m.live.ids.Seq(r.ClientID) != 0
}

// shedLate refuses r, which its driver has taken.
func (d *driver) shedLate(r *Request) {
	d.overload.Shed(limit.NewSends, 1)
	d.out.fail(r, d.errBusy())
}
