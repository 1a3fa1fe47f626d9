package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// resendAfter is how long each answer may take before the message is sent again by
// itself. After the last of them the answer is awaited until giveUpAfter.
var resendAfter = [...]time.Duration{3 * time.Second, 6 * time.Second, 12 * time.Second, 24 * time.Second, 48 * time.Second}

// slowLine is how many bytes a second a line is assumed to carry at least.
const slowLine = 8 << 10

// resumeOutbox lets everything be transmitted at once on a new connection.
func (e *Engine) resumeOutbox() {
	o := &e.outbox
	o.holdUntil = 0
	for _, m := range o.delayed {
		m.retryAt = 0
	}
}

// suspendOutbox makes the messages in flight wait: the connection is gone.
func (e *Engine) suspendOutbox(cause *pim.Error) {
	for len(e.outbox.flying) > 0 {
		e.delay(e.outbox.flying[0], 0, cause)
	}
}

// delay makes m wait until retryAt (0: for a new connection), because of cause.
func (e *Engine) delay(m *message, retryAt time.Duration, cause *pim.Error) {
	e.outbox.delay(m)
	m.retryAt, m.cause = retryAt, cause
	ev := SendEvent{ID: m.ID, Conversation: m.Conversation, State: Delayed, Err: cause}
	if retryAt != 0 {
		ev.RetryIn = retryAt - e.now.Mono
	}
	e.emit(ev)
}

// transmit sends what may be sent: first the delayed messages whose time has come,
// then new ones, one of each lane in turn. A new message needs a local time, so it waits
// while the clock is in doubt.
func (e *Engine) transmit() {
	o := &e.outbox
	if e.now.Mono < o.holdUntil {
		return
	}
	for i := 0; i < len(o.delayed) && len(o.flying) < e.limits.inFlight; {
		if m := o.delayed[i]; e.now.Mono >= m.retryAt {
			e.fly(m) // or fails; either way it is no longer at i
		} else {
			i++
		}
	}
	for len(o.ready) > 0 && len(o.flying) < e.limits.inFlight && !e.clock.doubt {
		l := o.ready[0]
		o.ready[0] = nil
		o.ready = o.ready[1:]
		l.ready = false
		if m := l.next(); m != nil {
			e.fly(m)
			o.wake(l)
		}
	}
	if len(o.ready) == 0 {
		o.ready = nil
	}
}

// fly transmits m, or fails it if it is too old. At its first transmission m gets its
// local time, which is kept from then on. The local time is stored with the same output,
// so before m is transmitted.
func (e *Engine) fly(m *message) {
	now := e.clock.times(e.now)
	// If the store is a backup, what it has as queued may have been transmitted since.
	backup := e.meta.FullSync && !e.doubts.list && e.meta.AckSerial > 0
	if err := m.tooOld(now, backup); err != nil {
		e.fail(m, err)
		return
	}
	if m.Local == 0 {
		if m.First == 0 {
			m.firstWall = e.now.Wall
		}
		m.Local = e.clock.localTime(e.now, e.meta.LastLocal)
		e.meta.LastLocal, e.metaDirty = m.Local, true
		e.store(m)
	} else if m.attempt == 0 {
		m.resumed = true
	}
	if m.attempt == 0 {
		m.firstAt = e.now.Mono
		if !m.patient() && !m.Again {
			m.giveUpAt = e.now.Mono + giveUpAfter - m.spent(now)
		}
	}
	e.outbox.land(m)
	m.attempt++
	m.state, m.sentAt, m.cause = InFlight, e.now.Mono, nil
	e.outbox.flying = append(e.outbox.flying, m)
	m.retryAt = e.now.Mono + e.answerTime(m)
	req := &wirepb.PIMSendReq{
		Conversation: string(m.Conversation), ClientMessageId: m.ID[:], LocalMs: int64(m.Local),
		Attempt: uint32(m.attempt), Payload: m.Payload, Kind: wirepb.EntryKind(m.Kind),
	}
	switch {
	case m.resumed:
		req.Attempt++
		req.AgeMs = uint64(max(0, e.clock.at(e.now)-m.Local)) // as well as this process can know
	case m.attempt > 1:
		req.AgeMs = uint64(max(1, (e.now.Mono - m.firstAt).Milliseconds()))
	}
	for _, u := range m.Members {
		req.Members = append(req.Members, string(u))
	}
	e.write(req)
	e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: InFlight, Attempt: m.attempt})
}

// answerTime returns how long m's answer may take: resendAfter, give or take 20 %, and
// the time that all payloads in flight take on a slow line. Most of their bytes may wait
// between here and the server, where the shell does not see them.
func (e *Engine) answerTime(m *message) time.Duration {
	d, bytes := resendAfter[min(m.resends, len(resendAfter)-1)], 0
	for _, f := range e.outbox.flying {
		bytes += len(f.Payload)
	}
	return d*4/5 + time.Duration(e.cfg.Random()*float64(d*2/5)) + time.Duration(bytes/slowLine)*time.Second
}

// dateQueued corrects Queued of the messages that were queued before the clock was
// known. A message that an earlier process has dated in the future, or not at all,
// counts from now.
func (e *Engine) dateQueued() {
	now := e.clock.at(e.now)
	for _, m := range slices.SortedFunc(maps.Values(e.outbox.byID), func(a, b *message) int { return cmp.Compare(a.Number, b.Number) }) {
		switch at := now - millis(e.now.Mono-m.roughAt); {
		case m.rough:
			m.Queued, m.rough = at, false
		case m.Queued == 0 || m.Queued > now:
			m.Queued = now
		default:
			continue
		}
		e.store(m)
	}
}

// sent takes a PIMSendAck: the message is durable.
func (e *Engine) sent(a *wirepb.PIMSendAck) {
	id, ok := wire.ClientID(a.ClientMessageId)
	m := e.outbox.byID[id]
	if !ok || m == nil { // answered before
		return
	}
	s := Sent{
		Conversation: pim.ConversationID(a.Conversation), Seq: pim.Seq(a.Seq), Anchor: pim.Seq(a.Anchor),
		Server: pim.Millis(a.ServerMs), Ahead: pim.Millis(a.AheadMs), Order: pim.Millis(a.OrderMs),
		Count: a.Count, Duplicate: a.Duplicate,
	}
	if s.Anchor == 0 {
		s.Anchor = s.Seq
	}
	e.delivered(m, s)
	c := e.conversations.get(s.Conversation)
	if c != nil && c.doubt != nil {
		c.doubt.hear(s.Seq)
		return
	}
	if c != nil {
		e.reads(c, &pim.Entry{Kind: m.Kind, Sender: e.user(), Seq: s.Seq, Count: s.Count})
	}
	if c == nil || s.Seq <= c.known {
		if c != nil && m.command == nil && !s.Duplicate && !c.holes.miss(s.Seq, s.Seq) && !c.checked {
			e.suspect(c) // another entry is stored at that seq
		}
		if m.command != nil { // a pull has left it out, because a later command superseded it
			e.showSetting(m.command.Entity())
		}
		return
	}
	if !madeUp(m) || s.Duplicate || m.First != 0 {
		// The entry is not made up from m: the writer decides who its members are; and
		// an earlier transmission, whose answer this may be, may have differed.
		c.heard(s.Seq, s.Count)
		e.touch(c)
		e.wantPull(c)
		return
	}
	if len(a.Payload) > 0 { // the server has written another payload, as it may for a read
		m.Payload = a.Payload
	}
	e.own(c, pim.Entry{
		Conversation: s.Conversation, Seq: s.Seq, Anchor: s.Anchor, Count: s.Count, Kind: m.Kind,
		Sender: e.meta.User, Device: e.meta.Device, ClientID: m.ID,
		Local: m.Local, Server: s.Server, Ahead: s.Ahead, Order: s.Order, Payload: m.Payload,
	})
}

// madeUp reports whether the entry can be made up from m and its answer.
func madeUp(m *message) bool { return m.Kind == pim.EntryMessage || m.Kind == pim.EntryCommand }

// delivered takes m, which the server has, out of the outbox.
func (e *Engine) delivered(m *message, s Sent) {
	e.leaveOutbox(m, SendEvent{Conversation: s.Conversation, State: Delivered, Sent: s})
}

// found takes an entry of this user's that was pushed or pulled. If it is the entry of
// a message in the outbox, the answer was lost, and the entry serves as the answer.
func (e *Engine) found(entry *pim.Entry) {
	if m := e.outbox.byID[entry.ClientID]; m != nil && (entry.Device == e.meta.Device || m.Again) {
		e.delivered(m, Sent{
			Conversation: entry.Conversation, Seq: entry.Seq, Anchor: entry.Anchor,
			Server: entry.Server, Ahead: entry.Ahead, Order: entry.Order, Count: entry.Count,
		})
	}
}

// rejected takes the server's refusal of a message.
func (e *Engine) rejected(id pim.ClientMessageID, answer *wirepb.PIMError) {
	m := e.outbox.byID[id]
	// If m is queued, it was sent again by hand and has not gone out since. Then "try
	// later" was about the transmission before, and says nothing of m now.
	if m == nil || m.state == Failed || m.state == Queued && answer.Retryable {
		return
	}
	err := refusalOf(answer)
	if !answer.Retryable {
		e.refuse(m, err)
		return
	}
	m.refusals++
	wait := repeatAfter(m.refusals, e.cfg.Random)
	if err.RetryAfter > 0 {
		// A server that names a time speaks of itself, not of this message: all
		// messages wait. It told other clients the same: the wait is spread.
		wait = max(wait, err.RetryAfter+time.Duration(e.cfg.Random()*float64(err.RetryAfter)/4))
		e.outbox.holdUntil = max(e.outbox.holdUntil, e.now.Mono+wait)
	}
	e.delay(m, e.now.Mono+wait, err)
}

var errNoAnswer = pim.Errorf(pim.KindTimeout, "no answer from the server within %v", giveUpAfter)

// tickOutbox sends again the messages whose answers are overdue, and fails those that
// have waited for too long.
func (e *Engine) tickOutbox() {
	o, now := &e.outbox, e.now.Mono
	if e.paused {
		return
	}
	for i := 0; i < len(o.flying); {
		m := o.flying[i]
		switch {
		case now >= m.giveUpAt:
			e.fail(m, errNoAnswer)
		case e.link.phase == open && now >= max(m.retryAt, o.holdUntil) && e.mayResend(m):
			e.watchdog.unanswered(m.sentAt, now)
			m.resends++
			e.fly(m) // to the end of the list, or out of it
		default:
			i++
		}
	}
	for i := 0; i < len(o.delayed); {
		if m := o.delayed[i]; now >= m.giveUpAt {
			e.fail(m, reason(m))
		} else {
			i++
		}
	}
}

// mayResend reports whether m is sent again, on this connection, when no answer comes.
func (e *Engine) mayResend(m *message) bool {
	return m.patient() || m.Again || m.resends < len(resendAfter)
}

// reason returns why m fails, which has waited for too long.
func reason(m *message) *pim.Error {
	if m.cause != nil && pim.KindOf(m.cause) != pim.KindUnknown {
		return m.cause
	}
	return errNoAnswer
}

// resumeAnswers gives every message its full time again: while the shell did not
// read, no answer could come.
func (e *Engine) resumeAnswers(paused time.Duration) {
	for _, m := range e.outbox.byID {
		if m.giveUpAt != never {
			m.giveUpAt += paused
		}
	}
	for _, m := range e.outbox.flying {
		m.sentAt, m.retryAt = e.now.Mono, e.now.Mono+e.answerTime(m)
	}
}

func (e *Engine) outboxDeadline(at *time.Duration) {
	o := &e.outbox
	if e.link.phase == open && o.holdUntil > e.now.Mono {
		*at = min(*at, o.holdUntil)
	}
	if e.paused {
		return
	}
	for _, m := range o.flying {
		*at = min(*at, m.giveUpAt)
		if e.mayResend(m) {
			*at = min(*at, max(m.retryAt, o.holdUntil))
		}
	}
	room := len(o.flying) < e.limits.inFlight
	for _, m := range o.delayed {
		*at = min(*at, m.giveUpAt)
		if e.link.phase == open && room {
			*at = min(*at, max(m.retryAt, o.holdUntil))
		}
	}
}
