package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// resendAfter is how long each answer may take before the message is sent again by
// itself. After the last of them the answer is awaited until giveUpAfter.
var resendAfter = [...]time.Duration{3 * time.Second, 6 * time.Second, 12 * time.Second, 24 * time.Second, 48 * time.Second}

// slowLine is how many bytes a second a line is assumed to carry at least.
const slowLine = 8 << 10

// opened lets everything be transmitted at once on a new connection.
func (o *outbox) opened() {
	o.spareNobody()
	for _, m := range o.delayed {
		m.retryAt = 0
	}
}

// suspend makes the messages in flight wait: the connection is gone.
func (o *outbox) suspend(cause *pim.Error) {
	for len(o.flying) > 0 {
		o.delay(o.flying[0], 0, cause)
	}
}

// transmit sends what may be sent: first the delayed messages whose time has come,
// then new ones, one of each lane in turn. A new message needs a local time, so it waits
// while the clock is in doubt. backup is as in message.tooOld.
func (o *outbox) transmit(backup bool) {
	now := o.fx.now.Mono
	if now < o.holdUntil {
		return
	}
	if o.streak > 0 {
		o.transmitNew(backup, 0)
	}
	for i := 0; i < len(o.delayed) && o.room(); {
		if m := o.delayed[i]; now >= o.againAt(m) {
			o.fly(m, backup) // or fails; either way it is no longer at i
		} else {
			i++
		}
	}
	o.wakeHeld()
	o.transmitNew(backup, now)
	if len(o.ready) == 0 {
		o.ready = nil
	}
}

// transmitNew transmits messages for the first time, one of each lane in turn. Conversations that are spared for longer than
// until limit wait, and stay ready; if it is 0 so do all of which something was refused.
func (o *outbox) transmitNew(backup bool, limit time.Duration) {
	var kept []*lane
	for len(o.ready) > 0 && !o.clock.doubt && o.room() {
		l := o.ready[0]
		o.ready[0] = nil
		o.ready = o.ready[1:]
		if o.spared[l.key.conversation] > limit {
			kept = append(kept, l)
			continue
		}
		l.ready = false
		if m := l.next(); m != nil && !slices.Contains(o.held, m) {
			o.fly(m, backup)
			o.wake(l)
		}
	}
	o.ready = append(o.ready, kept...)
}

// hold lets the message id, which is queued, wait until a time before it is transmitted. A held
// message may still be rewritten.
func (o *outbox) hold(id pim.ClientMessageID, until time.Duration) {
	if m := o.byID[id]; m != nil && until > o.fx.now.Mono {
		m.heldUntil = until
		o.held = append(o.held, m)
	}
}

// release ends the hold of the message id.
func (o *outbox) release(id pim.ClientMessageID) {
	if m := o.byID[id]; m != nil {
		m.heldUntil = 0
	}
}

// wakeHeld ends the holds whose time has come.
func (o *outbox) wakeHeld() {
	o.held = slices.DeleteFunc(o.held, func(m *message) bool {
		if m.heldUntil > o.fx.now.Mono {
			return false
		}
		if m.lane != nil { // it is still in the outbox
			o.wake(m.lane)
		}
		return true
	})
}

// rewrite gives the command m, which was not transmitted yet, another payload.
func (o *outbox) rewrite(m *message, payload []byte) {
	o.bytes += len(payload) - len(m.Payload)
	m.Payload = payload
	m.command = commandOf(&m.Outgoing)
	o.fx.store(m)
}

// fly transmits m, or fails it if it is too old. At its first transmission m gets its
// local time, which is kept from then on. The local time is stored with the same output,
// so before m is transmitted.
func (o *outbox) fly(m *message, backup bool) {
	fx, now := o.fx, o.clock.times(o.fx.now)
	if err := m.tooOld(now, backup); err != nil {
		o.fail(m, err)
		return
	}
	if m.Local == 0 {
		if m.First == 0 {
			m.firstWall = now.wall
		}
		m.Local = o.clock.localTime(fx.now, fx.meta.LastLocal)
		fx.meta.LastLocal, fx.metaDirty = m.Local, true
		fx.store(m)
	} else if m.attempt == 0 {
		m.resumed = true
	}
	if m.attempt == 0 {
		m.firstAt = fx.now.Mono
		if !m.patient() && !m.Again {
			m.giveUpAt = fx.now.Mono + giveUpAfter - m.spent(now)
		}
	}
	o.land(m)
	m.attempt++
	m.state, m.sentAt, m.cause = InFlight, fx.now.Mono, nil
	o.flying = append(o.flying, m)
	m.retryAt = fx.now.Mono + o.answerTime(m)
	fx.write(m.request(fx.now.Mono, now))
	fx.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: InFlight, Attempt: m.attempt})
}

// request returns the frame of m's transmission number m.attempt.
func (m *message) request(mono time.Duration, now times) *wirepb.PIMSendReq {
	req := &wirepb.PIMSendReq{
		Conversation: string(m.Conversation), ClientMessageId: m.ID[:], LocalMs: int64(m.Local),
		Attempt: uint32(m.attempt), Payload: m.Payload, Kind: wirepb.EntryKind(m.Kind),
		Refers: uint64(m.Refers), Reaction: m.Reaction, Removed: m.Removed, RetainMs: int64(m.Retain),
	}
	req.MentionAll = m.MentionAll
	for _, u := range m.Mentions {
		req.Mentions = append(req.Mentions, string(u))
	}
	switch {
	case m.resumed:
		req.Attempt++
		req.AgeMs = uint64(max(0, now.server-m.Local)) // as well as this process can know
	case m.attempt > 1:
		req.AgeMs = uint64(max(1, (mono - m.firstAt).Milliseconds()))
	}
	for _, u := range m.Members {
		req.Members = append(req.Members, string(u))
	}
	return req
}

// answerTime returns how long m's answer may take: resendAfter, give or take 20 %, and
// the time that all payloads in flight take on a slow line. Most of their bytes may wait
// between here and the server, where the shell does not see them.
func (o *outbox) answerTime(m *message) time.Duration {
	d, bytes := resendAfter[min(m.resends, len(resendAfter)-1)], 0
	for _, f := range o.flying {
		bytes += len(f.Payload)
	}
	return d*4/5 + time.Duration(o.random()*float64(d*2/5)) + time.Duration(bytes/slowLine)*time.Second
}

// dateQueued corrects Queued of the messages that were queued before the clock was
// known. A message that an earlier process has dated in the future, or not at all,
// counts from now.
func (o *outbox) dateQueued() {
	now := o.clock.at(o.fx.now)
	for _, m := range slices.SortedFunc(maps.Values(o.byID), func(a, b *message) int { return cmp.Compare(a.Number, b.Number) }) {
		switch at := now - millis(o.fx.now.Mono-m.roughAt); {
		case m.rough:
			m.Queued, m.rough = at, false
		case m.Queued == 0 || m.Queued > now:
			m.Queued = now
		default:
			continue
		}
		o.fx.store(m)
	}
}

// rejected takes the server's refusal of the message id.
func (o *outbox) rejected(id pim.ClientMessageID, err *pim.Error, retryable bool) {
	m := o.byID[id]
	// If m is queued, it was sent again by hand and has not gone out since. Then "try
	// later" was about the transmission before, and says nothing of m now.
	if m == nil || m.state == Failed || m.state == Queued && retryable {
		return
	}
	if !retryable {
		o.accepted()
		o.refuse(m, err)
		return
	}
	m.refusals++
	wait := repeatAfter(m.refusals, o.random)
	if err.RetryAfter > 0 {
		// The server told other clients the same: the wait is spread.
		wait = max(wait, err.RetryAfter+time.Duration(o.random()*float64(err.RetryAfter)/4))
		o.spare(m, o.fx.now.Mono+wait)
	}
	o.delay(m, o.fx.now.Mono+wait, err)
}

var errNoAnswer = pim.Errorf(pim.KindTimeout, "no answer from the server within %v", giveUpAfter)

// tick sends again the messages whose answers are overdue, if the connection is open, and
// fails those that have waited for too long. It returns when the overdue ones were
// transmitted.
func (o *outbox) tick(open bool) (unanswered []time.Duration) {
	now := o.fx.now.Mono
	for i := 0; i < len(o.flying); {
		m := o.flying[i]
		switch {
		case now >= m.giveUpAt:
			o.fail(m, errNoAnswer)
		case open && now >= o.againAt(m) && m.mayResend():
			unanswered = append(unanswered, m.sentAt)
			m.resends++
			o.fly(m, false) // to the end of the list, or out of it
		default:
			i++
		}
	}
	for i := 0; i < len(o.delayed); {
		if m := o.delayed[i]; now >= m.giveUpAt {
			o.fail(m, reason(m))
		} else {
			i++
		}
	}
	return unanswered
}

// mayResend reports whether m is sent again, on this connection, when no answer comes.
func (m *message) mayResend() bool {
	return m.patient() || m.Again || m.resends < len(resendAfter)
}

// reason returns why m fails when it has waited for too long.
func reason(m *message) *pim.Error {
	if m.cause != nil && pim.KindOf(m.cause) != pim.KindUnknown {
		return m.cause
	}
	return errNoAnswer
}

// resumed gives every message its full time again: while the shell did not read, for the
// time paused, no answer could come.
func (o *outbox) resumed(paused time.Duration) {
	for _, m := range o.byID {
		if m.giveUpAt != never {
			m.giveUpAt += paused
		}
	}
	for _, m := range o.flying {
		m.sentAt, m.retryAt = o.fx.now.Mono, o.fx.now.Mono+o.answerTime(m)
	}
}

// deadline returns when something is due: open says whether there is a connection, paused
// that the shell does not read from it.
func (o *outbox) deadline(open, paused bool) time.Duration {
	at := never
	if open {
		at = o.goesOn()
		for _, m := range o.held {
			at = min(at, max(m.heldUntil, o.holdUntil))
		}
	}
	if paused {
		return at
	}
	for _, m := range o.flying {
		at = min(at, m.giveUpAt)
		if m.mayResend() {
			at = min(at, o.againAt(m))
		}
	}
	room := open && o.room()
	for _, m := range o.delayed {
		at = min(at, m.giveUpAt)
		if room {
			at = min(at, o.againAt(m))
		}
	}
	return at
}
