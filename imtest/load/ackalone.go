package load

import (
	"context"
	"time"
)

// A user who never sends writes nothing that a PIMPushAck could ride along with. Such a
// user sends each PIMPushAck by itself, tickEvery after the first entry that it
// acknowledges. Every user has its own timer, so the acknowledgements are spread over
// time, as those of many phones are.

// alarm is a timer that is set: user u must acknowledge at time at, in ns since the run
// began.
type alarm struct {
	u  *user
	at int64
}

// arm sets u's timer if an entry is unacknowledged and the timer is not set yet. The
// caller holds u.mu.
func (u *user) arm() {
	if u.unacknowledged() && !u.armed {
		u.armed = true
		u.run.alarms <- alarm{u, u.now + int64(tickEvery)} // never blocks: there is room for every user
	}
}

// acknowledgeAlone acknowledges for the users who never send, until ctx ends. All timers
// are equally long, so they end in the order in which they were set.
func (r *chat) acknowledgeAlone(ctx context.Context) {
	for {
		select {
		case a := <-r.alarms:
			if early := a.at - r.clock(); early > 0 && wait(ctx, time.Duration(early)) != nil {
				return
			}
			a.u.lock()
			a.u.armed = false
			a.u.acknowledge(true)
			a.u.release() // the reading goroutine sees the error, too
		case <-ctx.Done():
			return
		}
	}
}
