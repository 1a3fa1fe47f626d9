package engine

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// A sender is an outbox alone, and a store.
type sender struct {
	t *rapid.T
	outbox
	fx     effects
	clock  clock
	limits limits
	ids    uint64
	gone   map[pim.ClientMessageID]SendState // what has left the outbox, and how
	stored map[pim.ClientMessageID]Outgoing
}

func newSender(t *rapid.T) *sender {
	s := &sender{t: t, gone: make(map[pim.ClientMessageID]SendState), stored: make(map[pim.ClientMessageID]Outgoing)}
	s.fx.now = Time{Mono: time.Hour, Wall: loginEpoch}
	s.clock = clock{known: true, low: loginEpoch * time.Millisecond, high: loginEpoch * time.Millisecond}
	s.limits = limits{payload: pim.MaxPayload, inFlight: 3}
	s.starts()
	return s
}

// starts runs the outbox from what the store has.
func (s *sender) starts() {
	s.outbox = outbox{
		fx: &s.fx, clock: &s.clock, limits: &s.limits,
		random: func() float64 { return 0.5 },
		left:   func(m *message, end SendState) { s.gone[m.ID] = end },
	}
	s.restore(slices.Collect(maps.Values(s.stored)))
}

// sends queues a message of a kind to one of two conversations.
func (s *sender) sends(kind pim.EntryKind) {
	s.ids++
	out := Outgoing{Kind: kind, Conversation: rapid.SampledFrom([]pim.ConversationID{"g:a", "g:b"}).Draw(s.t, "to")}
	binary.BigEndian.PutUint64(out.ID[:], s.ids)
	out.Payload = make([]byte, rapid.IntRange(0, 9).Draw(s.t, "bytes"))
	if err := s.checkMessage(&out); err != nil {
		s.t.Fatal(err)
	}
	s.queue(newMessage(out))
}

// takes carries out what the outbox wants, and checks that the store has what the outbox
// has.
func (s *sender) takes() {
	out := s.fx.take()
	for _, m := range out.Store.Outbox {
		s.stored[m.ID] = m
	}
	for _, id := range out.Store.Remove {
		delete(s.stored, id)
	}
	for id, m := range s.byID {
		if kept, ok := s.stored[id]; !ok || kept.Number != m.Number || kept.Local != m.Local || kept.Failed != m.Failed {
			s.t.Fatalf("stored is %+v of %+v", kept, m.Outgoing)
		}
	}
	if len(s.stored) != len(s.byID) {
		s.t.Fatalf("%d messages are stored, %d are in the outbox", len(s.stored), len(s.byID))
	}
	for _, f := range out.Frames {
		req := f.(*wirepb.PIMSendReq)
		if kept := s.stored[pim.ClientMessageID(req.ClientMessageId)]; pim.Millis(req.LocalMs) != kept.Local || kept.Local == 0 {
			s.t.Fatalf("transmitted with the local time %d, stored with %d", req.LocalMs, kept.Local)
		}
	}
}

// sound checks that every message is where its state says, and that lanes keep their order.
func (s *sender) sound() {
	in := map[SendState][]*message{InFlight: s.flying, Delayed: s.delayed, Failed: s.failed}
	lists, bytes, lanes := 0, 0, 0
	for state, list := range in {
		lists += len(list)
		for _, m := range list {
			if m.state != state || s.byID[m.ID] != m {
				s.t.Fatalf("a message is listed as %s, and is %s", state, m.state)
			}
		}
	}
	for _, m := range s.byID {
		bytes += len(m.Payload)
		if m.state == Queued {
			lists++
		}
		if (m.lane == nil) != (m.state == Failed) {
			s.t.Fatalf("a message is %s, and in a lane: %v", m.state, m.lane != nil)
		}
	}
	for _, l := range s.lanes {
		lanes += len(l.messages)
		queued := false
		for i, m := range l.messages {
			switch {
			case m.state != Queued && queued:
				s.t.Fatal("a message has overtaken one that waits")
			case m.state != Queued && m.patient() && i > 0:
				s.t.Fatal("a patient message has not waited for those before it")
			}
			queued = queued || m.state == Queued || m.patient()
		}
		if l.next() != nil && !slices.Contains(s.ready, l) {
			s.t.Fatal("a lane has something to transmit, and nobody knows")
		}
	}
	if lists != len(s.byID) || lanes != len(s.byID)-len(s.failed) || bytes != s.bytes || len(s.flying) > s.limits.inFlight {
		s.t.Fatalf("%d messages, %d in lists, %d in lanes, %d in flight; %d bytes, counted as %d", len(s.byID), lists, lanes, len(s.flying), bytes, s.bytes)
	}
	if !slices.IsSortedFunc(s.delayed, func(a, b *message) int { return int(a.Number) - int(b.Number) }) {
		s.t.Fatal("the delayed messages are not in their order")
	}
}

// Messages are queued, transmitted, answered, refused, given up and sent by hand again, and
// connections come and go. Nothing is lost, what is stored is what is there, and in the
// end every message is with the server or has failed.
func TestOutbox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, open := newSender(t), false
		one := func(list []*message) *message { return list[rapid.IntRange(0, len(list)-1).Draw(t, "which")] }
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 10: // the process dies
				s.starts()
				open = false
			case 11:
				pause := time.Duration(rapid.IntRange(1, 400_000).Draw(t, "paused")) * time.Millisecond
				s.fx.now.Wall += millis(pause)
				s.fx.now.Mono += pause
				s.resumed(pause)
			case 0, 1:
				s.sends(pim.EntryMessage)
			case 2:
				s.sends(pim.EntryJoin)
			case 3:
				if open {
					s.suspend(pim.Errorf(pim.KindUnavailable, "cut"))
				} else {
					s.opened()
				}
				open = !open
			case 4:
				if len(s.flying) > 0 {
					s.delivered(one(s.flying), Sent{})
				}
			case 5:
				if len(s.flying) > 0 {
					retryable := rapid.Bool().Draw(t, "retryable")
					after := time.Duration(rapid.IntRange(0, 2).Draw(t, "after")) * time.Second
					s.rejected(one(s.flying).ID, &pim.Error{Kind: pim.KindOverloaded, RetryAfter: after}, retryable)
				}
			case 6:
				if len(s.failed) > 0 {
					if err := s.resend(one(s.failed).ID); err != nil {
						t.Fatal(err)
					}
				}
			case 7:
				for id := range s.ids { // the first that may be
					var of pim.ClientMessageID
					binary.BigEndian.PutUint64(of[:], id+1)
					if s.discard(of) == nil {
						break
					}
				}
			default:
				wait := time.Duration(rapid.IntRange(1, 60_000).Draw(t, "ms")) * time.Millisecond
				at := min(s.fx.now.Mono+wait, max(s.fx.now.Mono, s.deadline(open, false)))
				s.fx.now.Wall += millis(at - s.fx.now.Mono)
				s.fx.now.Mono = at
			}
			s.tick(open)
			if open {
				s.transmit(false)
			}
			s.takes()
			s.sound()
		}
		if !open {
			s.opened()
		}
		for range 10_000 {
			if len(s.byID) == len(s.failed) {
				break
			}
			s.fx.now.Mono = max(s.fx.now.Mono, min(s.deadline(true, false), s.fx.now.Mono+time.Minute))
			s.tick(true)
			s.transmit(false)
			s.takes()
			for len(s.flying) > 0 {
				s.delivered(s.flying[0], Sent{})
			}
			s.takes()
			s.sound()
		}
		if len(s.byID) != len(s.failed) || len(s.byID)+len(s.gone) != int(s.ids) {
			t.Fatalf("of %d messages %d are gone, and %d are there, %d of them failed", s.ids, len(s.gone), len(s.byID), len(s.failed))
		}
	})
}

// newOutbox returns an outbox whose clock is right, at the time testTimes.
func newOutbox(left func(m *message, end SendState)) *outbox {
	fx := &effects{now: Time{Mono: time.Hour, Wall: loginEpoch}, meta: Meta{Device: "phone"}}
	offset := loginEpoch*time.Millisecond - time.Hour
	o := &outbox{
		fx: fx, clock: &clock{known: true, low: offset, high: offset}, limits: &limits{payload: 10, inFlight: 3},
		random: func() float64 { return 0.5 }, left: left,
	}
	o.restore(nil)
	return o
}

func outgoing(id byte, kind pim.EntryKind, conv pim.ConversationID) Outgoing {
	return Outgoing{ID: pim.ClientMessageID{id}, Kind: kind, Conversation: conv}
}

// While the clock is in doubt only what has its local time is transmitted.
func TestOutboxInDoubt(t *testing.T) {
	o := newOutbox(nil)
	o.queue(newMessage(outgoing(1, pim.EntryMessage, "g:a")))
	o.transmit(false)
	o.suspend(pim.Errorf(pim.KindUnavailable, "cut"))
	o.opened()
	o.queue(newMessage(outgoing(2, pim.EntryMessage, "g:a")))
	o.clock.doubt = true
	o.transmit(false)
	if len(o.flying) != 1 || o.flying[0].ID != (pim.ClientMessageID{1}) {
		t.Errorf("%d are in flight", len(o.flying))
	}
	o.clock.doubt = false
	o.transmit(false)
	if len(o.flying) != 2 {
		t.Errorf("%d are in flight without a doubt", len(o.flying))
	}
	o.extend(2 * time.Hour)
	if at := o.deadline(true, false); at != time.Hour+giveUpAfter {
		t.Errorf("something is due at %v", at)
	}
	o.resumed(time.Minute)
	for _, m := range o.flying {
		if m.giveUpAt != time.Hour+giveUpAfter+time.Minute || m.retryAt != time.Hour+3*time.Second {
			t.Errorf("after a pause: given up at %v, sent again at %v", m.giveUpAt, m.retryAt)
		}
	}
}

// What was queued before the server's time was known is dated when it is.
func TestDateQueued(t *testing.T) {
	o := newOutbox(nil)
	o.restore([]Outgoing{outgoing(1, pim.EntryJoin, "g:a"), {ID: pim.ClientMessageID{2}, Kind: pim.EntryJoin, Conversation: "g:a", Number: 1, Queued: ago(-time.Hour)}})
	o.clock.known = false
	o.fx.now.Wall = 5
	o.queue(newMessage(outgoing(3, pim.EntryJoin, "g:a")))
	if got := o.byID[pim.ClientMessageID{3}].Queued; got != 5 {
		t.Errorf("by the wall clock it was queued at %d", got)
	}
	o.fx.take()
	o.clock.known = true
	o.fx.now.Mono += time.Minute
	o.dateQueued()
	for id, want := range map[byte]pim.Millis{1: ago(-time.Minute), 2: ago(-time.Minute), 3: ago(0)} {
		if got := o.byID[pim.ClientMessageID{id}].Queued; got != want {
			t.Errorf("message %d was queued at %d, want %d", id, got, want)
		}
	}
	if stored := o.fx.take().Store.Outbox; len(stored) != 3 {
		t.Errorf("%d are stored", len(stored))
	}
}

// Messages that the server has lost are queued again; those that it refuses because their
// group is not there yet are revived when it is.
func TestSentAgain(t *testing.T) {
	var gone []SendState
	o := newOutbox(func(_ *message, end SendState) { gone = append(gone, end) })
	c := &conversation{id: "g:a", back: 2}
	for id := range byte(2) {
		out := outgoing(id, pim.EntryMessage, "g:a")
		out.Again, out.Local = true, ago(30*24*time.Hour)
		if o.again(out) == nil || o.again(out) != nil {
			t.Fatal("queued once")
		}
	}
	o.transmit(false)
	if len(o.flying) != 2 {
		t.Fatalf("%d are in flight: they are not too old, whatever their local times", len(o.flying))
	}
	o.rejected(pim.ClientMessageID{0}, &pim.Error{Kind: pim.KindNotMember}, false)
	if o.stuck(c) {
		t.Error("stuck, and one is under way")
	}
	o.rejected(pim.ClientMessageID{1}, &pim.Error{Kind: pim.KindForbidden}, false)
	if !o.stuck(c) || o.stuck(&conversation{id: "g:a", back: 2, peeked: true}) || o.stuck(&conversation{id: "g:a", back: 3}) {
		t.Error("stuck is who has looked for no create, and whose messages were all refused")
	}
	o.revive("g:other")
	o.revive("g:a")
	if len(o.failed) != 1 || o.failed[0].ID != (pim.ClientMessageID{1}) || o.byID[pim.ClientMessageID{0}].state != Queued {
		t.Errorf("after the group has come %d have failed", len(o.failed))
	}
	join := outgoing(9, pim.EntryJoin, "g:a")
	join.Again = true
	o.again(join)
	o.rejected(join.ID, &pim.Error{Kind: pim.KindConflict}, false)
	o.found(&pim.Entry{ClientID: pim.ClientMessageID{0}, Device: "laptop"}) // another device has brought it back
	if !slices.Equal(gone, []SendState{Discarded, Delivered}) {
		t.Errorf("gone: %v", gone)
	}
	o.queue(newMessage(outgoing(5, pim.EntryMessage, "g:a")))
	o.found(&pim.Entry{ClientID: pim.ClientMessageID{5}, Device: "laptop"})
	o.found(&pim.Entry{ClientID: pim.ClientMessageID{5}, Device: "phone"})
	if len(gone) != 3 {
		t.Errorf("gone: %v", gone)
	}
}

// The answers of a Confirm are queued all, or none.
func TestCheckAnswers(t *testing.T) {
	o := newOutbox(nil)
	o.queue(newMessage(outgoing(1, pim.EntryMessage, "g:a")))
	large := outgoing(3, pim.EntryMessage, "g:a")
	large.Payload = make([]byte, 11)
	a, b := outgoing(1, pim.EntryMessage, "g:a"), outgoing(2, pim.EntryMessage, "g:a")
	if fresh, err := o.checkAnswers([]Outgoing{a, b}); err != nil || len(fresh) != 1 || fresh[0].ID != b.ID {
		t.Errorf("one is there already: %v, %v", fresh, err)
	}
	for name, answers := range map[string][]Outgoing{
		"twice the same": {b, b}, "too large": {b, large}, "a command": {b, outgoing(4, pim.EntryCommand, "g:a")},
	} {
		if _, err := o.checkAnswers(answers); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	o.bytes = maxOutboxBytes - 15
	b.Payload, large.Payload = make([]byte, 8), make([]byte, 8)
	if _, err := o.checkAnswers([]Outgoing{b}); err != nil {
		t.Error(err)
	}
	if _, err := o.checkAnswers([]Outgoing{b, large}); pim.KindOf(err) != pim.KindOverloaded {
		t.Errorf("more than there is room for: %v", err)
	}
}
