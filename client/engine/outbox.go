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
// Only messages proper (pim.EntryMessage) are given up after 180 s. Creates, joins, leaves,
// commands and what refers to a message wait longer: they expire a week after they were queued.

// message is an Outgoing of any kind on its way.
type message struct {
	Outgoing
	lane    *lane
	command *pim.Command // of a command; else nil
	counts  []uint64     // of Mentions, as the server has answered
	cut     bool         // Refers is not what it was when the message was transmitted first, see referredBack

	state   SendState     // Queued, InFlight, Delayed or Failed
	attempt int           // transmissions so far, by this process
	resumed bool          // it was transmitted before this process, or before the server lost it
	firstAt time.Duration // the first transmission by this process

	// The wall clock when this process queued the message, and when it transmitted the
	// message for the first time ever; 0 if an earlier process did. See times.since.
	queuedWall, firstWall pim.Millis

	resends   int           // transmissions that were made because no answer came in time
	refusals  int           // in a row, all of them retryable
	cause     *pim.Error    // why it waits
	sentAt    time.Duration // InFlight: the last transmission
	retryAt   time.Duration // InFlight and Delayed: the next transmission; 0: on a new connection
	giveUpAt  time.Duration // set at the first transmission by this process; never if patient or Again
	heldUntil time.Duration // see outbox.hold
	rough     bool          // Queued was taken before the server's time was known
	roughAt   time.Duration // rough: when m was queued, on the monotonic clock
}

// patient reports whether m waits for an answer for as long as it takes, up to a week.
// Nothing overtakes a patient message: what comes behind it in its lane may depend on it.
func (m *message) patient() bool { return m.Kind != pim.EntryMessage }

// lane holds messages that keep an order among themselves, first in, first out: those
// of one conversation, what refers to one message, the commands about one entity, or the
// create of one group. A
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
	refers       pim.Seq
	create       pim.ClientMessageID
}

func keyOf(m *message) laneKey {
	key := laneKey{conversation: m.Conversation, refers: m.Refers}
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
	fx     *effects
	clock  *clock
	limits *limits
	random func() float64                  // Config.Random
	left   func(m *message, end SendState) // called when m has left the outbox, after its last SendEvent

	byID    map[pim.ClientMessageID]*message
	lanes   map[laneKey]*lane
	ready   []*lane    // lanes that may have something to transmit; each at most once
	flying  []*message // InFlight, in the order of their last transmission
	delayed []*message // in the order of their numbers
	failed  []*message // in the order in which they failed
	held    []*message // those with heldUntil, and some that are gone
	bytes   int        // payloads of all messages

	refused // by a server that is busy, see refused.go
}

// restore goes on with the messages of a store.
func (o *outbox) restore(messages []Outgoing) {
	o.byID = make(map[pim.ClientMessageID]*message, len(messages))
	o.lanes = make(map[laneKey]*lane)
	messages = slices.Clone(messages)
	slices.SortFunc(messages, func(a, b Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for _, out := range messages {
		m := newMessage(out)
		o.byID[m.ID] = m
		o.bytes += len(m.Payload)
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
		o.emptied(l)
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

// delay makes m wait until retryAt (0: for a new connection), because of cause.
func (o *outbox) delay(m *message, retryAt time.Duration, cause *pim.Error) {
	o.land(m)
	m.state, m.retryAt, m.cause = Delayed, retryAt, cause
	at, _ := slices.BinarySearchFunc(o.delayed, m.Number, func(d *message, n uint64) int { return cmp.Compare(d.Number, n) })
	o.delayed = slices.Insert(o.delayed, at, m)
	ev := SendEvent{ID: m.ID, Conversation: m.Conversation, State: Delayed, Err: cause}
	if retryAt != 0 {
		ev.RetryIn = retryAt - o.fx.now.Mono
	}
	o.fx.emit(ev)
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

// checkMessage checks a message of Send or Confirm, which must not be a command.
func (o *outbox) checkMessage(out *Outgoing) error {
	if err := o.check(out); err != nil {
		return err
	}
	if user, own := out.Conversation.OwnUser(); own {
		return pim.Errorf(pim.KindInvalid, "the log of %s's own commands takes no messages", user)
	}
	if out.Kind == pim.EntryCommand {
		return pim.Errorf(pim.KindInvalid, "a command cannot be sent as a message to %q", out.Conversation)
	}
	if err := checkMentions(out); err != nil {
		return err
	}
	return checkReferring(out)
}

// checkMentions says what is wrong with the mentions of a message, and drops names that are
// there already.
func checkMentions(out *Outgoing) error {
	if out.Kind != pim.EntryMessage && (out.MentionAll || len(out.Mentions) > 0) {
		return pim.Errorf(pim.KindInvalid, "a %s mentions nobody", out.Kind)
	}
	var names []pim.UserID
	for _, u := range out.Mentions {
		if err := u.Validate(); err != nil {
			return err
		}
		if !slices.Contains(names, u) {
			names = append(names, u)
		}
	}
	if out.Mentions = names; len(names) > pim.MaxMentions {
		return pim.Errorf(pim.KindTooLarge, "a message that names %d users, at most %d are allowed", len(names), pim.MaxMentions)
	}
	return nil
}

// check says why out cannot be queued, nil if it can.
func (o *outbox) check(out *Outgoing) error {
	switch {
	case o.byID[out.ID] != nil:
		return pim.Errorf(pim.KindConflict, "message %s is in the outbox", out.ID)
	case len(out.Payload) > o.limits.payload:
		return pim.Errorf(pim.KindTooLarge, "a payload of %d bytes, at most %d are allowed", len(out.Payload), o.limits.payload)
	case len(out.Members) > o.limits.members:
		return pim.Errorf(pim.KindTooLarge, "%d members, at most %d are allowed", len(out.Members), o.limits.members)
	case !o.fits(1, len(out.Payload)):
		return o.errFull()
	}
	return nil
}

// checkAnswers returns the answers that are not in the outbox yet, or why they cannot
// all be queued.
func (o *outbox) checkAnswers(answers []Outgoing) (fresh []Outgoing, err error) {
	bytes := 0
	for i := range answers {
		out := &answers[i]
		if o.byID[out.ID] != nil {
			continue
		}
		if slices.ContainsFunc(fresh, func(other Outgoing) bool { return other.ID == out.ID }) {
			return nil, pim.Errorf(pim.KindInvalid, "two answers have the ID %s", out.ID)
		}
		if err := o.checkMessage(out); err != nil {
			return nil, err
		}
		fresh, bytes = append(fresh, *out), bytes+len(out.Payload)
	}
	if !o.fits(len(fresh), bytes) {
		return nil, o.errFull()
	}
	return fresh, nil
}

// fits reports whether there is room for so many messages more, with so many bytes.
func (o *outbox) fits(messages, bytes int) bool {
	return len(o.byID)+messages <= maxOutbox && o.bytes+bytes <= maxOutboxBytes
}

func (o *outbox) errFull() error {
	return pim.Errorf(pim.KindOverloaded, "the outbox is full: %d messages, %d bytes", len(o.byID), o.bytes)
}

// queue stores m as the outbox's last message, to be transmitted as if for the first
// time.
func (o *outbox) queue(m *message) {
	fx := o.fx
	m.Local, m.Failed = 0, nil
	m.attempt, m.resumed, m.resends, m.refusals, m.giveUpAt, m.cause = 0, false, 0, 0, never, nil
	m.queuedWall = fx.now.Wall
	m.Queued = o.clock.at(fx.now)
	if m.rough, m.roughAt = !o.clock.known, fx.now.Mono; m.rough {
		m.Queued = max(m.Queued, fx.meta.LastLocal) // the wall clock may be behind
	}
	o.add(m)
}

// again queues a message that the server has acknowledged and lost since. It returns nil
// if the message is in the outbox already.
func (o *outbox) again(out Outgoing) *message {
	if o.byID[out.ID] != nil {
		return nil
	}
	m := newMessage(out)
	m.Queued = o.clock.at(o.fx.now)
	o.add(m)
	return m
}

// add stores m as the outbox's last message.
func (o *outbox) add(m *message) {
	if o.byID[m.ID] == nil {
		o.byID[m.ID] = m
		o.bytes += len(m.Payload)
	}
	o.fx.meta.Number++
	o.fx.metaDirty = true
	m.Number = o.fx.meta.Number
	o.enter(m)
	o.queued(m)
}

// queued stores m, and says that it waits for its turn.
func (o *outbox) queued(m *message) {
	o.fx.store(m)
	o.fx.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Queued})
}

// resend queues a failed message again.
func (o *outbox) resend(id pim.ClientMessageID) error {
	m := o.byID[id]
	switch {
	case m == nil:
		return pim.Errorf(pim.KindNotFound, "message %s is not in the outbox", id)
	case m.state != Failed:
		return pim.Errorf(pim.KindConflict, "message %s is %s; only what has failed is sent again", id, m.state)
	}
	if err := m.forgotten(o.clock.times(o.fx.now)); err != nil {
		return err
	}
	o.land(m)
	m.First = cmp.Or(m.First, m.Local)
	o.queue(m)
	return nil
}

// discard gives up a message that is queued or has failed. One in any other state may
// have reached the server, and the app does not know yet.
func (o *outbox) discard(id pim.ClientMessageID) error {
	m := o.byID[id]
	switch {
	case m == nil:
		return pim.Errorf(pim.KindNotFound, "message %s is not in the outbox", id)
	case m.state != Failed && m.state != Queued:
		return pim.Errorf(pim.KindConflict, "message %s is %s and may have reached the server", id, m.state)
	}
	o.leave(m, SendEvent{State: Discarded})
	return nil
}

// leave takes m out of the outbox; end is its last SendEvent.
func (o *outbox) leave(m *message, end SendEvent) {
	o.exit(m)
	delete(o.byID, m.ID)
	o.bytes -= len(m.Payload)
	o.fx.unstore(m.ID)
	end.ID, end.Conversation = m.ID, cmp.Or(end.Conversation, m.Conversation)
	o.fx.emit(end)
	o.left(m, end.State)
}

// fail keeps m in the outbox until the app decides: Resend or Discard. A command is
// dropped, and so is what refers to a message: it is shown no longer, and says no more.
func (o *outbox) fail(m *message, err *pim.Error) {
	if m.command != nil || m.Refers != 0 {
		o.leave(m, SendEvent{State: Failed, Err: err})
		return
	}
	o.exit(m)
	m.state, m.Failed = Failed, &pim.Error{Op: err.Op, Kind: err.Kind, Text: err.Text}
	o.failed = append(o.failed, m)
	o.fx.store(m)
	o.fx.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Failed, Err: err})
	if len(o.failed) > maxFailed {
		// A message that the server has lost (Again) is nowhere else, so it does not give
		// way; bringBack bounds how many there are.
		if i := slices.IndexFunc(o.failed, func(m *message) bool { return !m.Again }); i >= 0 {
			o.leave(o.failed[i], SendEvent{State: Discarded})
		}
	}
}

// refuse takes the server's final refusal of m.
func (o *outbox) refuse(m *message, err *pim.Error) {
	if m.Again && (m.Kind == pim.EntryJoin || m.Kind == pim.EntryLeave) {
		o.leave(m, SendEvent{State: Discarded}) // another device has brought it back, or no device can
		return
	}
	o.fail(m, err)
}

// stuck reports whether the server has refused all messages of c that are being sent
// again, and formerRead has not looked yet whether the group's create is kept aside.
func (o *outbox) stuck(c *conversation) bool {
	if c.peeked || c.back > len(o.failed) {
		return false
	}
	n := 0
	for _, m := range o.failed {
		if m.Again && m.Conversation == c.id {
			n++
		}
	}
	return n == c.back
}

// revive queues the messages to the group id again that were being sent again, and were
// refused because the group was not there yet.
func (o *outbox) revive(id pim.ConversationID) {
	for _, m := range slices.Clone(o.failed) {
		if m.Again && m.Conversation == id && m.Failed.Kind == pim.KindNotMember {
			o.land(m)
			m.Failed, m.attempt, m.resends, m.refusals = nil, 0, 0, 0
			o.enter(m)
			o.queued(m)
		}
	}
}

// found takes an entry of this user's that was pushed or pulled. If it is the entry of
// a message in the outbox, the answer was lost, and the entry serves as the answer.
func (o *outbox) found(entry *pim.Entry) {
	if m := o.byID[entry.ClientID]; m != nil && (entry.Device == o.fx.meta.Device || m.Again) {
		o.delivered(m, Sent{
			Conversation: entry.Conversation, Seq: entry.Seq, Anchor: entry.Anchor,
			Server: entry.Server, Ahead: entry.Ahead, Order: entry.Order, Count: entry.Count,
		})
	}
}

// delivered takes m, which the server has, out of the outbox.
func (o *outbox) delivered(m *message, s Sent) {
	o.accepted()
	o.leave(m, SendEvent{Conversation: s.Conversation, State: Delivered, Sent: s})
}
