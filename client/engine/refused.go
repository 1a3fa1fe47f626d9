package engine

import (
	"time"

	"github.com/pim-im/pim"
)

// A server that refuses a message for now, and names a time, may speak of that message (its sender has written to too many
// strangers), of the conversation (its writer's queue is full), or of itself. It does not say of which, so the outbox finds out:
//
//   - The conversation waits: nothing in it overtakes what was refused. Others go on.
//   - Of the others only half as many messages are in flight as before, and one more with each that is accepted. So if the
//     server refuses all, it is asked by few, however many wait; and if it accepts, soon all are on their way.
//   - If what is sent after that is refused in another conversation, and nothing was accepted in between, the server may speak of itself. Everything waits: a
//     random time up to 1 s, then up to 2, 4, 8 and 10 s. The times are random from 0 on, so that a crowd that was refused together does not come
//     together again. Then conversations that were not refused go first: if their messages are accepted, the server did not speak of itself.

const (
	maxHold     = 10 * time.Second // for which everything waits, at most
	leastWindow = 2                // so that one slow answer does not hold up everything
)

// refused is what an outbox knows of a server that is busy.
type refused struct {
	spared    map[pim.ConversationID]time.Duration // of which messages were refused on this connection: no message to them is transmitted before
	holdUntil time.Duration                        // no message is transmitted before
	window    int                                  // messages in flight whose answers are not overdue, at most; 0: as many as the limits allow
	streak    int                                  // refusals in a row, each of another conversation than the one before, and of what was sent after that was told
	toldAt    time.Duration                        // when a refusal was told last of what was sent after the one before
	toldOf    pim.ConversationID                   // of the last one in streak
}

// spare takes note that m, which is in flight, was refused, and that its conversation is to wait until a time.
func (o *outbox) spare(m *message, until time.Duration) {
	now := o.fx.now.Mono
	if o.spared == nil {
		o.spared = make(map[pim.ConversationID]time.Duration)
	}
	o.spared[m.Conversation] = max(o.spared[m.Conversation], until)
	if m.sentAt < o.toldAt {
		return // it was on its way when the last refusal was told, and says the same
	}
	o.window, o.toldAt = max(leastWindow, len(o.flying)/2), now
	if o.streak > 0 && m.Conversation == o.toldOf {
		return
	}
	o.toldOf = m.Conversation
	if o.streak++; o.streak > 1 {
		limit := min(time.Second<<min(o.streak-2, 10), maxHold)
		o.holdUntil = max(o.holdUntil, now+time.Duration(o.random()*float64(limit)))
	}
}

// accepted takes note that the server has taken a message, or refused it for good.
func (o *outbox) accepted() {
	o.streak = 0
	if o.window > 0 {
		o.window++
	}
}

// emptied takes note that a lane is empty. If its conversation need not wait any more, whatever comes next may be accepted.
func (o *outbox) emptied(l *lane) {
	if o.spared[l.key.conversation] <= o.fx.now.Mono {
		delete(o.spared, l.key.conversation)
	}
}

// spareNobody lets all conversations go on. Only the window stays.
func (o *outbox) spareNobody() {
	o.holdUntil = 0
	clear(o.spared)
}

// againAt returns before when m, which was transmitted, is not transmitted again.
func (o *outbox) againAt(m *message) time.Duration {
	return max(m.retryAt, o.spared[m.Conversation], o.holdUntil)
}

// goesOn returns when something that waits may be transmitted for the first time, at the earliest; never: nothing waits.
func (o *outbox) goesOn() time.Duration {
	at := never
	if o.holdUntil > o.fx.now.Mono {
		at = o.holdUntil
	}
	if len(o.spared) > 0 {
		for _, l := range o.ready {
			if until := o.spared[l.key.conversation]; until > o.fx.now.Mono {
				at = min(at, until)
			}
		}
	}
	return at
}

// room reports whether one more message may be in flight.
func (o *outbox) room() bool {
	if len(o.flying) >= o.limits.inFlight || o.window == 0 {
		return len(o.flying) < o.limits.inFlight
	}
	n := 0
	for _, m := range o.flying {
		if m.resends == 0 { // else its answer is overdue, and says nothing of the others
			n++
		}
	}
	return n < o.window
}
