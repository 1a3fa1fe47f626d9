package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
)

const (
	maxOutbox      = 10_000   // messages
	maxOutboxBytes = 64 << 20 // their payloads
	maxFailed      = 1_000    // messages that have failed; the oldest give way
)

// A message on its way (SendState):
//
//	queued ──transmit──► sending ──answer──► sent
//	   ▲                  │   ▲
//	   │   connection lost│   │new connection, or its time
//	   │      or "busy"   ▼   │
//	   │                 waiting
//	   │                    │ 180 s after the first transmission, or refused for good
//	   └─────Resend────── failed ──Discard──► gone
//
// Only messages proper (pim.EntryMessage) are given up after 180 s. Creates, joins,
// leaves and commands wait longer: they expire a week after they were queued.

// message is an Outgoing of any kind on its way.
type message struct {
	Outgoing
	lane    *lane
	command *pim.Command // of a command; else nil

	state   SendState     // Queued, InFlight, Delayed or Failed
	attempt int           // transmissions so far, by this process
	resumed bool          // it was transmitted before this process, or before the server lost it
	firstAt time.Duration // the first transmission by this process

	// The wall clock when this process queued the message, and when it transmitted the
	// message for the first time ever; 0 if an earlier process did. See times.since.
	queuedWall, firstWall pim.Millis

	resends  int           // transmissions that were made because no answer came in time
	refusals int           // in a row, all of them retryable
	cause    *pim.Error    // why it waits
	sentAt   time.Duration // InFlight: the last transmission
	retryAt  time.Duration // InFlight and Delayed: the next transmission; 0: on a new connection
	giveUpAt time.Duration // set at the first transmission by this process; never if patient or Again
	rough    bool          // Queued was taken before the server's time was known
	roughAt  time.Duration // rough: the same moment on the monotonic clock
}

// patient reports whether m waits for an answer for as long as it takes, up to a week.
// Nothing overtakes a patient message: what comes behind it in its lane may depend on it.
func (m *message) patient() bool { return m.Kind != pim.EntryMessage }

// lane holds messages that keep an order among themselves, first in, first out: those
// of one conversation, the commands about one entity, or the create of one group. A
// message is transmitted for the first time only after all before it in the lane were;
// several may be in flight, because the display order mends what a resend disturbs. A
// patient message waits until all before it are answered, and everything behind it
// waits until it is answered.
type lane struct {
	key      laneKey
	messages []*message // in the order in which they entered; none that has failed
	ready    bool       // it is in outbox.ready
}

type laneKey struct {
	conversation pim.ConversationID
	entity       string
	create       pim.ClientMessageID
}

func keyOf(m *message) laneKey {
	key := laneKey{conversation: m.Conversation}
	switch {
	case m.command != nil:
		key.entity = m.command.Entity()
	case m.Conversation == "":
		key.create = m.ID
	}
	return key
}

// outbox holds the messages that have no answer yet, and those that failed. All
// of them are stored.
type outbox struct {
	byID      map[pim.ClientMessageID]*message
	lanes     map[laneKey]*lane
	ready     []*lane       // lanes that may have something to transmit; each at most once
	flying    []*message    // InFlight, in the order of their last transmission
	delayed   []*message    // in the order of their numbers
	failed    []*message    // in the order in which they failed
	holdUntil time.Duration // the server is busy: no message is transmitted before
	bytes     int           // payloads of all messages
}

func (e *Engine) restoreOutbox(messages []Outgoing) {
	o := &e.outbox
	o.byID = make(map[pim.ClientMessageID]*message, len(messages))
	o.lanes = make(map[laneKey]*lane)
	messages = slices.Clone(messages)
	slices.SortFunc(messages, func(a, b Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for _, out := range messages {
		m := newMessage(out)
		o.byID[m.ID] = m
		o.bytes += len(m.Payload)
		e.countBack(m, 1)
		switch {
		case m.Failed != nil:
			m.state = Failed
			o.failed = append(o.failed, m)
		case m.Local != 0 && !m.Again:
			m.state = Delayed
			o.delayed = append(o.delayed, m)
			fallthrough
		default:
			o.enter(m)
		}
	}
}

func newMessage(out Outgoing) *message {
	m := &message{Outgoing: out, state: Queued, giveUpAt: never}
	if out.Kind == pim.EntryCommand {
		m.command = commandOf(&out)
	}
	return m
}

// enter puts m at the end of its lane.
func (o *outbox) enter(m *message) {
	key := keyOf(m)
	l := o.lanes[key]
	if l == nil {
		l = &lane{key: key}
		o.lanes[key] = l
	}
	m.lane = l
	l.messages = append(l.messages, m)
	o.wake(l)
}

// exit takes m out of its lane and out of flight.
func (o *outbox) exit(m *message) {
	o.land(m)
	l := m.lane
	if l == nil {
		return
	}
	m.lane = nil
	if i := slices.Index(l.messages, m); i >= 0 {
		l.messages = slices.Delete(l.messages, i, i+1)
	}
	if len(l.messages) == 0 {
		delete(o.lanes, l.key)
		if l.ready {
			l.ready = false
			o.ready = slices.DeleteFunc(o.ready, func(other *lane) bool { return other == l })
		}
		return
	}
	o.wake(l)
}

// land takes m out of flying, delayed or failed.
func (o *outbox) land(m *message) {
	var in *[]*message
	switch m.state {
	case InFlight:
		in = &o.flying
	case Delayed:
		in = &o.delayed
	case Failed:
		in = &o.failed
	default:
		return
	}
	if i := slices.Index(*in, m); i >= 0 {
		*in = slices.Delete(*in, i, i+1)
	}
	m.state = Queued
}

// delay makes m wait.
func (o *outbox) delay(m *message) {
	o.land(m)
	m.state = Delayed
	at, _ := slices.BinarySearchFunc(o.delayed, m.Number, func(d *message, n uint64) int { return cmp.Compare(d.Number, n) })
	o.delayed = slices.Insert(o.delayed, at, m)
}

// commands returns the commands about entity that are on their way to the user's own log,
// in their order.
func (o *outbox) commands(log pim.ConversationID, entity string) []*message {
	if l := o.lanes[laneKey{conversation: log, entity: entity}]; l != nil {
		return l.messages
	}
	return nil
}

// waits reports whether the server owes an answer.
func (o *outbox) waits() bool { return len(o.flying) > 0 }

// extend gives every answer time until by at least.
func (o *outbox) extend(by time.Duration) {
	for _, m := range o.flying {
		m.retryAt = max(m.retryAt, by)
	}
}

func (o *outbox) wake(l *lane) {
	if !l.ready {
		l.ready = true
		o.ready = append(o.ready, l)
	}
}

// next returns the message of l that is to be transmitted for the first time now, nil
// if there is none.
func (l *lane) next() *message {
	for i, m := range l.messages {
		switch {
		case m.state == Queued && (i == 0 || !m.patient()):
			return m
		case m.state == Queued || m.patient():
			return nil
		}
	}
	return nil
}

// send takes a message into the outbox.
func (e *Engine) send(out Outgoing) error {
	if err := e.checkMessage(&out); err != nil {
		return err
	}
	e.queue(newMessage(out))
	return nil
}

// checkMessage checks a message of Send or Confirm, which must not be a command.
func (e *Engine) checkMessage(out *Outgoing) error {
	if err := e.checkSend(out); err != nil {
		return err
	}
	if user, own := out.Conversation.OwnUser(); own || out.Kind == pim.EntryCommand {
		return pim.Errorf(pim.KindInvalid, "the log of %s's own commands takes no messages", user)
	}
	return nil
}

func (e *Engine) checkSend(out *Outgoing) error {
	switch {
	case e.outbox.byID[out.ID] != nil:
		return pim.Errorf(pim.KindConflict, "message %s is in the outbox", out.ID)
	case len(out.Payload) > e.limits.payload:
		return pim.Errorf(pim.KindTooLarge, "a payload of %d bytes, at most %d are allowed", len(out.Payload), e.limits.payload)
	case len(out.Members) > e.limits.members:
		return pim.Errorf(pim.KindTooLarge, "%d members, at most %d are allowed", len(out.Members), e.limits.members)
	case len(e.outbox.byID) >= maxOutbox || e.outbox.bytes+len(out.Payload) > maxOutboxBytes:
		return e.outboxFull()
	}
	return nil
}

func (e *Engine) outboxFull() error {
	return pim.Errorf(pim.KindOverloaded, "the outbox is full: %d messages, %d bytes", len(e.outbox.byID), e.outbox.bytes)
}

// queue stores m as the outbox's last message, to be transmitted as if for the first
// time.
func (e *Engine) queue(m *message) {
	o := &e.outbox
	if o.byID[m.ID] == nil {
		o.byID[m.ID] = m
		o.bytes += len(m.Payload)
	}
	e.meta.Number++
	e.metaDirty = true
	m.Number, m.Local, m.Queued, m.Failed = e.meta.Number, 0, e.clock.at(e.now), nil
	m.attempt, m.resumed, m.resends, m.refusals, m.giveUpAt, m.cause = 0, false, 0, 0, never, nil
	m.queuedWall = e.now.Wall
	if m.rough, m.roughAt = !e.clock.known, e.now.Mono; m.rough {
		m.Queued = max(m.Queued, e.meta.LastLocal) // the wall clock may be behind
	}
	o.enter(m)
	e.store(m)
	e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Queued})
}

// resend queues a failed message again.
func (e *Engine) resend(id pim.ClientMessageID) error {
	m := e.outbox.byID[id]
	switch {
	case m == nil:
		return pim.Errorf(pim.KindNotFound, "message %s is not in the outbox", id)
	case m.state != Failed:
		return pim.Errorf(pim.KindConflict, "message %s is %s; only what has failed is sent again", id, m.state)
	}
	if err := m.forgotten(e.clock.times(e.now)); err != nil {
		return err
	}
	e.outbox.land(m)
	m.First = cmp.Or(m.First, m.Local)
	e.queue(m)
	return nil
}

// discard gives up a message that is queued or has failed. One in any other state may
// have reached the server, and the app does not know yet.
func (e *Engine) discard(id pim.ClientMessageID) error {
	m := e.outbox.byID[id]
	switch {
	case m == nil:
		return pim.Errorf(pim.KindNotFound, "message %s is not in the outbox", id)
	case m.state != Failed && m.state != Queued:
		return pim.Errorf(pim.KindConflict, "message %s is %s and may have reached the server", id, m.state)
	}
	e.leaveOutbox(m, SendEvent{State: Discarded})
	return nil
}

// leaveOutbox takes m out of the outbox; end is its last SendEvent.
func (e *Engine) leaveOutbox(m *message, end SendEvent) {
	o := &e.outbox
	o.exit(m)
	delete(o.byID, m.ID)
	o.bytes -= len(m.Payload)
	e.countBack(m, -1)
	e.unstore(m.ID)
	end.ID, end.Conversation = m.ID, cmp.Or(end.Conversation, m.Conversation)
	e.emit(end)
	e.commandLeft(m, end.State)
}

// fail keeps m in the outbox until the app decides: Resend or Discard. A command is
// dropped.
func (e *Engine) fail(m *message, err *pim.Error) {
	if m.command != nil {
		e.leaveOutbox(m, SendEvent{State: Failed, Err: err})
		return
	}
	o := &e.outbox
	o.exit(m)
	m.state, m.Failed = Failed, &pim.Error{Op: err.Op, Kind: err.Kind, Text: err.Text}
	o.failed = append(o.failed, m)
	e.store(m)
	e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Failed, Err: err})
	if len(o.failed) > maxFailed {
		// A message that the server has lost (Again) is nowhere else, so it does not give
		// way; bringBack bounds how many there are.
		if i := slices.IndexFunc(o.failed, func(m *message) bool { return !m.Again }); i >= 0 {
			e.leaveOutbox(o.failed[i], SendEvent{State: Discarded})
		}
	}
}
