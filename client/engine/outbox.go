package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxOutbox      = 10_000   // messages
	maxOutboxBytes = 64 << 20 // their payloads
)

// progress is where a message of the outbox stands. What comes next may extend
// it: a message waits by itself for a later resend, fails after a time.
//
//	queued ──transmit──► sending ──answer──► gone (sent, or failed for good)
//	   ▲                    │
//	   └── connection lost, or a retryable error (then not before notBefore)
type progress uint8

const (
	queued progress = iota
	sending
)

// message is an Outgoing on its way.
type message struct {
	Outgoing
	lane      *lane
	progress  progress
	attempt   uint32        // transmissions so far, of this process
	failures  int           // retryable errors in a row
	sentAt    time.Duration // the last transmission
	notBefore time.Duration // the next one, after a retryable error
}

// lane is the messages of one conversation, first in, first out: a message is
// transmitted for the first time after all before it were. Several may be in
// flight. A group to be created has a lane of its own.
type lane struct {
	key      laneKey
	messages []*message // ascending by number
	ready    bool       // it is in outbox.ready
}

type laneKey struct {
	conversation pim.ConversationID
	create       pim.ClientMessageID
}

// outbox holds the messages that have no answer yet. All of them are stored.
type outbox struct {
	byID   map[pim.ClientMessageID]*message
	lanes  map[laneKey]*lane
	ready  []*lane    // that may have something to transmit; each at most once
	held   []*lane    // whose next message has a notBefore
	flying []*message // in flight, in the order of their last transmission
	bytes  int
}

func (o *outbox) restore(messages []Outgoing) {
	o.byID = make(map[pim.ClientMessageID]*message, len(messages))
	o.lanes = make(map[laneKey]*lane)
	messages = slices.Clone(messages)
	slices.SortFunc(messages, func(a, b Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for _, m := range messages {
		o.add(m)
	}
}

// add puts m at the end of its lane.
func (o *outbox) add(out Outgoing) *lane {
	key := laneKey{conversation: out.Conversation}
	if out.Conversation == "" {
		key.create = out.ID
	}
	l := o.lanes[key]
	if l == nil {
		l = &lane{key: key}
		o.lanes[key] = l
	}
	m := &message{Outgoing: out, lane: l}
	l.messages = append(l.messages, m)
	o.byID[out.ID] = m
	o.bytes += len(out.Payload)
	return l
}

func (o *outbox) remove(m *message) {
	l := m.lane
	if i := slices.Index(l.messages, m); i >= 0 {
		l.messages = slices.Delete(l.messages, i, i+1)
	}
	if len(l.messages) == 0 {
		delete(o.lanes, l.key)
	}
	delete(o.byID, m.ID)
	o.bytes -= len(m.Payload)
	o.land(m)
}

// land takes m out of flight.
func (o *outbox) land(m *message) {
	if m.progress == sending {
		m.progress = queued
		i := slices.Index(o.flying, m)
		o.flying = slices.Delete(o.flying, i, i+1)
	}
}

func (o *outbox) wake(l *lane) {
	if !l.ready {
		l.ready = true
		o.ready = append(o.ready, l)
	}
}

// next returns the first message of l that is not in flight, nil if there is
// none.
func (l *lane) next() *message {
	for _, m := range l.messages {
		if m.progress != sending {
			return m
		}
	}
	return nil
}

// send takes a message into the outbox.
func (e *Engine) send(out Outgoing) error {
	if err := e.checkSend(&out); err != nil {
		return err
	}
	e.meta.Number++
	e.metaDirty = true
	out.Number, out.Local = e.meta.Number, 0
	e.out.Store.Outbox = append(e.out.Store.Outbox, out)
	e.outbox.wake(e.outbox.add(out))
	return nil
}

func (e *Engine) checkSend(out *Outgoing) error {
	switch {
	case e.link.phase == stopped:
		return e.link.stopErr
	case e.outbox.byID[out.ID] != nil:
		return pim.Errorf(pim.KindConflict, "message %s is in the outbox", out.ID)
	case len(out.Payload) > e.limits.payload:
		return pim.Errorf(pim.KindTooLarge, "a payload of %d bytes, at most %d are allowed", len(out.Payload), e.limits.payload)
	case len(out.Members) > e.limits.members:
		return pim.Errorf(pim.KindTooLarge, "%d members, at most %d are allowed", len(out.Members), e.limits.members)
	case len(e.outbox.byID) >= maxOutbox || e.outbox.bytes+len(out.Payload) > maxOutboxBytes:
		return pim.Errorf(pim.KindOverloaded, "the outbox is full: %d messages, %d bytes", len(e.outbox.byID), e.outbox.bytes)
	}
	return nil
}

// resumeOutbox takes everything back into the queue, on a new connection.
func (e *Engine) resumeOutbox() {
	o := &e.outbox
	for _, m := range o.flying {
		m.progress = queued
	}
	o.flying, o.ready, o.held = nil, nil, nil
	lanes := make([]*lane, 0, len(o.lanes))
	for _, l := range o.lanes {
		l.ready = false
		lanes = append(lanes, l)
	}
	slices.SortFunc(lanes, func(a, b *lane) int { return cmp.Compare(a.messages[0].Number, b.messages[0].Number) })
	for _, l := range lanes {
		o.wake(l)
	}
}

// transmit sends what may be sent, one message of each lane in turn.
func (e *Engine) transmit() {
	o := &e.outbox
	for len(o.ready) > 0 && len(o.flying) < e.limits.inFlight {
		l := o.ready[0]
		o.ready[0] = nil
		o.ready = o.ready[1:]
		l.ready = false
		m := l.next()
		switch {
		case m == nil: // all in flight or gone
		case e.now.Mono < m.notBefore:
			o.held = append(o.held, l)
		default:
			e.fly(m)
			o.wake(l)
		}
	}
	if len(o.ready) == 0 {
		o.ready = nil
	}
}

// fly transmits m. Its local time is stored with this output, so before it is
// transmitted, and kept from then on.
func (e *Engine) fly(m *message) {
	if m.Local == 0 {
		m.Local = e.local()
		e.store(m)
	}
	m.attempt++
	m.progress, m.sentAt, m.notBefore = sending, e.now.Mono, 0
	e.outbox.flying = append(e.outbox.flying, m)
	req := &wirepb.PIMSendReq{
		Conversation: string(m.Conversation), ClientMessageId: m.ID[:], LocalMs: int64(m.Local),
		Attempt: m.attempt, Payload: m.Payload, Kind: wirepb.EntryKind(m.Kind),
	}
	for _, u := range m.Members {
		req.Members = append(req.Members, string(u))
	}
	e.write(req)
}

// store writes m's new state. A message that is queued by the same output is in
// it already.
func (e *Engine) store(m *message) {
	pending := e.out.Store.Outbox
	for i := len(pending) - 1; i >= 0; i-- {
		if pending[i].ID == m.ID {
			pending[i] = m.Outgoing
			return
		}
	}
	e.out.Store.Outbox = append(pending, m.Outgoing)
}

// sent takes the answer to a message: it is durable.
func (e *Engine) sent(a *wirepb.PIMSendAck) {
	id, ok := wire.ClientID(a.ClientMessageId)
	m := e.outbox.byID[id]
	if !ok || m == nil { // answered before
		return
	}
	s := Sent{
		Conversation: pim.ConversationID(a.Conversation), Seq: pim.Seq(a.Seq), Anchor: pim.Seq(a.Anchor),
		Server: pim.Millis(a.ServerMs), Count: a.Count, Duplicate: a.Duplicate,
	}
	if s.Anchor == 0 {
		s.Anchor = s.Seq
	}
	e.gone(m, s)
	c := e.conversation(s.Conversation)
	if c == nil || s.Seq <= c.known {
		return
	}
	if m.Kind != pim.EntryMessage || s.Duplicate {
		// The entry is not made up from m: the writer decides who the members are
		// in it, and an earlier transmission may have differed.
		c.newest = max(c.newest, s.Seq)
		e.touch(c)
		e.wantPull(c)
		return
	}
	e.own(c, pim.Entry{
		Conversation: s.Conversation, Seq: s.Seq, Anchor: s.Anchor, Count: s.Count, Kind: m.Kind,
		Sender: e.meta.User, Device: e.meta.Device, ClientID: m.ID,
		Local: m.Local, Server: s.Server, Payload: m.Payload,
	})
}

// gone takes m, which was answered, out of the outbox.
func (e *Engine) gone(m *message, s Sent) {
	e.drop(m)
	e.emit(SendEvent{ID: m.ID, Conversation: s.Conversation, State: Delivered, Sent: s})
}

func (e *Engine) drop(m *message) {
	e.outbox.remove(m)
	e.out.Store.Remove = append(e.out.Store.Remove, m.ID)
}

// found takes an entry of this user's that was pushed or pulled. If it is of a
// message in the outbox, its answer was lost and this is as good.
func (e *Engine) found(entry *pim.Entry) {
	if m := e.outbox.byID[entry.ClientID]; m != nil && entry.Device == e.meta.Device {
		e.gone(m, Sent{
			Conversation: entry.Conversation, Seq: entry.Seq, Anchor: entry.Anchor,
			Server: entry.Server, Count: entry.Count,
		})
	}
}

// rejected takes the server's refusal of a message.
func (e *Engine) rejected(id pim.ClientMessageID, answer *wirepb.PIMError) {
	m := e.outbox.byID[id]
	if m == nil {
		return
	}
	err := wire.ErrorOf(answer)
	if !answer.Retryable {
		e.drop(m)
		e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Failed, Err: err})
		return
	}
	e.outbox.land(m)
	m.failures++
	m.notBefore = e.now.Mono + max(err.RetryAfter, e.backoff(m.failures))
	e.outbox.wake(m.lane)
}

func (e *Engine) tickOutbox() {
	o, now := &e.outbox, e.now.Mono
	if !e.paused {
		for len(o.flying) > 0 && now >= o.flying[0].sentAt+e.cfg.RequestTimeout {
			m := o.flying[0]
			o.land(m)
			o.wake(m.lane)
		}
	}
	o.held = slices.DeleteFunc(o.held, func(l *lane) bool {
		m := l.next()
		if m != nil && now < m.notBefore {
			return false
		}
		o.wake(l)
		return true
	})
}

func (e *Engine) outboxDeadline(at *time.Duration) {
	o := &e.outbox
	if len(o.flying) > 0 && !e.paused {
		*at = min(*at, o.flying[0].sentAt+e.cfg.RequestTimeout)
	}
	for _, l := range o.held {
		if m := l.next(); m != nil {
			*at = min(*at, m.notBefore)
		}
	}
}
