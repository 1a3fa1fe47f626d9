package load

import (
	"context"
	"time"
)

// A user who never sends has nothing that its acknowledgements could ride along
// with: each goes out by itself, tickEvery after the first entry that it
// acknowledges, by a timer of that user's own. So they are spread over the time as
// those of many phones are.

// alarm is when a user has to acknowledge.
type alarm struct {
	u  *user
	at int64
}

// arm sets u's timer if something is new and the timer is not set. u.mu is held.
func (u *user) arm() {
	if u.unacknowledged() && !u.armed {
		u.armed = true
		u.run.alarms <- alarm{u, u.now + int64(tickEvery)} // there is room for every user
	}
}

// acknowledgeAlone acknowledges for those who acknowledge by themselves, until ctx
// ends. All timers are equally long, so that they ring in the order they were set.
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
			a.u.release() // an error comes to the reading goroutine as well
		case <-ctx.Done():
			return
		}
	}
}
