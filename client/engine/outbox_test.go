package engine_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// The process dies; the outbox goes on in order, with the local times that went
// out before.
func TestResendAfterRestart(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		s.sends(chat, text)
	}
	before := make(map[string]int64)
	for _, m := range s.up {
		m := m.(*wirepb.PIMSendReq)
		before[string(m.Payload)] = m.LocalMs
	}
	s.dies()
	s.w.passes(time.Minute)
	s.starts()
	s.opens(&wirepb.Limits{})
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSendReq); ok && before[string(m.Payload)] != 0 && before[string(m.Payload)] != m.LocalMs {
			t.Errorf("local time of %s was %d and is %d", m.Payload, before[string(m.Payload)], m.LocalMs)
		}
	}
	s.transmits("sync full=false after=", "send a attempt 2", "send b attempt 2", "send c attempt 2", "send d attempt 2", "send e attempt 1")
}

func TestOutboxIsBounded(t *testing.T) {
	s := newScript(t)
	send := func(payload []byte) error {
		return s.step(engine.Send{Message: engine.Outgoing{ID: s.w.id(), Conversation: chat, Payload: payload}})
	}
	if err := send(make([]byte, pim.MaxPayload+1)); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("too large: %v", err)
	}
	n := 0
	for ; n < 20_000; n++ {
		if err := send(nil); err != nil {
			if pim.KindOf(err) != pim.KindOverloaded {
				t.Errorf("full: %v", err)
			}
			break
		}
	}
	if n != 10_000 {
		t.Errorf("%d messages fit", n)
	}
}

// lives lets time go by on a connection that works: the server answers something,
// but not what the story is about.
func (s *script) lives(d time.Duration) {
	for range int(d / time.Second) {
		s.w.passes(time.Second)
		s.gets(&wirepb.PIMSyncResp{})
	}
}

// transmitted lists the transmissions of messages since the last call; all else is
// left out.
func (s *script) transmitted() []string {
	var got []string
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSendReq); ok {
			got = append(got, fmt.Sprintf("%s %d", m.Payload, m.Attempt))
		}
	}
	s.up = nil
	return got
}

func (s *script) hasTransmitted(want ...string) {
	s.t.Helper()
	if got := s.transmitted(); !slices.Equal(got, want) {
		s.t.Fatalf("transmitted %q, want %q", got, want)
	}
}

// states tells how the messages fared since the last call: one line an event.
func (s *script) states() string {
	var lines []string
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SendEvent); ok {
			line := fmt.Sprint(strings.TrimLeft(string(ev.ID[:]), "0"), " ", ev.State)
			if ev.Err != nil {
				line += fmt.Sprint(" (", ev.Err.Kind, ")")
			}
			lines = append(lines, line)
		}
	}
	s.events = nil
	return strings.Join(lines, ", ")
}

func (s *script) fared(want string) {
	s.t.Helper()
	if got := s.states(); got != want {
		s.t.Fatalf("messages: %s\nwant      %s", got, want)
	}
}

func (s *script) must(in engine.Input) {
	s.t.Helper()
	if err := s.step(in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) refuses(want pim.Kind, in engine.Input) {
	s.t.Helper()
	if err := s.step(in); pim.KindOf(err) != want || err == nil {
		s.t.Fatalf("%T: %v, want an error of kind %s", in, err, want)
	}
}

// Without an answer a message is sent again after 3, 6, 12, 24 and 48 s, and has
// failed after 180: once, with a reason, in the store.
func TestResendsAndThenFails(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	first := s.up[len(s.up)-1].(*wirepb.PIMSendReq)
	var at []int
	for sec := range 200 {
		for _, m := range s.up {
			if m, ok := m.(*wirepb.PIMSendReq); ok {
				at = append(at, sec)
				if m.LocalMs != first.LocalMs || int(m.Attempt) != len(at) {
					t.Errorf("transmission %d: %v, first %v", len(at), m, first)
				}
			}
		}
		s.up = nil
		if sec == 180 {
			s.fared("1 queued, 1 sending, 1 sending, 1 sending, 1 sending, 1 sending, 1 sending, 1 failed (timeout)")
		}
		s.lives(time.Second)
	}
	if want := []int{0, 3, 9, 21, 45, 93}; !slices.Equal(at, want) {
		t.Errorf("transmitted at %v s, want %v", at, want)
	}
	if f := s.store.outbox[id].Failed; f == nil || f.Kind != pim.KindTimeout {
		t.Errorf("stored: %+v", s.store.outbox[id])
	}
	s.fared("")
}

// Large messages wait for their answers for longer, each for those before it too:
// they may all be on a slow line.
func TestLargeMessagesHaveTime(t *testing.T) {
	s := newScript(t)
	number := make(map[string]int)
	for n := range 4 {
		id := s.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryMessage, Payload: make([]byte, 60<<10)})
		number[string(id[:])] = n
	}
	s.quiets()
	var at [4]int
	for sec := range 40 {
		for _, m := range s.up {
			if m, ok := m.(*wirepb.PIMSendReq); ok && m.Attempt == 2 {
				at[number[string(m.ClientMessageId)]] = sec
			}
		}
		s.quiets()
		s.lives(time.Second)
	}
	if want := [4]int{3 + 7, 3 + 15, 3 + 22, 3 + 30}; at != want {
		t.Errorf("transmitted again at %v s, want %v", at, want)
	}
}

// What has failed stays failed over a restart, until the user presses a button:
// then the same ID goes out with a new local time.
func TestResendByHand(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	was := s.store.outbox[id].Local
	s.lives(180 * time.Second)
	s.refuses(pim.KindNotFound, engine.Resend{ID: s.w.id()})
	s.dies()
	s.starts()
	s.opens(nil)
	s.hasTransmitted()
	s.must(engine.Resend{ID: id})
	s.hasTransmitted("a 1")
	s.fared("1 queued, 1 sending")
	if now := s.store.outbox[id]; now.Failed != nil || now.Local <= was {
		t.Errorf("stored: %+v, its local time was %d", now, was)
	}
	s.refuses(pim.KindConflict, engine.Resend{ID: id})
	s.refuses(pim.KindConflict, engine.Discard{ID: id})
	s.gets(ackFor(id, 1))
	s.fared("1 sent")
}

// The answer that comes after a Resend may be that to the first transmission: then the
// entry has the first local time, so it is pulled.
func TestResendByHandAnsweredLate(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	first := s.store.outbox[id].Local
	s.lives(180 * time.Second)
	s.must(engine.Resend{ID: id})
	s.quiets()
	s.gets(ackFor(id, 1))
	if stored := s.store.entries[chat]; len(stored) != 0 {
		t.Fatalf("made up: %+v", stored)
	}
	s.gets(&wirepb.PIMPullResp{RequestId: s.lastPull(), From: 1, To: 1, Newest: 1, Done: true, Entries: []*wirepb.Entry{
		{Seq: 1, Sender: "alice", Device: "phone", ClientMessageId: id[:], LocalMs: int64(first), Payload: []byte("a"), Kind: 1},
	}})
	if e := s.store.entries[chat][1]; e.Local != first {
		t.Errorf("stored with local time %d, want %d", e.Local, first)
	}
}

// A "try later" for the transmission before says nothing of a message that was sent
// again by hand and has not gone out since: it keeps its place in the order.
func TestResendByHandRefusedLate(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	s.lives(180 * time.Second)
	s.skew += pim.Millis(time.Minute / time.Millisecond) // first transmissions wait for a sample
	s.must(engine.Resend{ID: id})
	s.sends(chat, "b")
	s.quiets()
	s.states()
	s.gets(&wirepb.PIMError{ClientMessageId: id[:], Kind: wirepb.ErrorKind_ERROR_KIND_INTERNAL, Retryable: true})
	s.fared("")
	s.lives(2 * time.Second)
	s.hasTransmitted()
	s.gets(&wirepb.PIMTimeResp{T1: int64(s.w.now), T2: int64(s.w.server.Now()), T3: int64(s.w.server.Now())})
	s.hasTransmitted("a 1", "b 1")
}

func TestDiscard(t *testing.T) {
	s := newScript(t)
	failed := s.sends(chat, "a")
	s.gets(&wirepb.PIMError{ClientMessageId: failed[:], Kind: wirepb.ErrorKind_ERROR_KIND_FORBIDDEN})
	s.loses()
	queued := s.sends(chat, "b")
	s.must(engine.Discard{ID: failed})
	s.must(engine.Discard{ID: queued})
	s.fared("1 queued, 1 sending, 1 failed (forbidden), 2 queued, 1 discarded, 2 discarded")
	if len(s.store.outbox) != 0 {
		t.Errorf("stored: %v", s.store.outbox)
	}
	s.refuses(pim.KindNotFound, engine.Discard{ID: queued})
}

// An answer that was lost is found in the log, even if the message counted as
// failed.
func TestFailedIsFoundInTheLog(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	s.lives(180 * time.Second)
	s.states()
	s.gets(&wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{
		{Seq: 1, Count: 1, Sender: "alice", Device: "phone", ClientMessageId: id[:], Payload: []byte("a"), Kind: 1},
	}})
	s.fared("1 sent")
	if len(s.store.outbox) != 0 {
		t.Errorf("stored: %v", s.store.outbox)
	}
}

// Without a connection, what was transmitted fails 180 s after that; what was not
// waits for as long as it takes.
func TestLongOutage(t *testing.T) {
	s := newScript(t)
	s.sends(chat, "a")
	s.loses()
	s.sends(chat, "b")
	s.w.passes(time.Hour)
	s.fared("1 queued, 1 sending, 1 waiting (unavailable), 2 queued, 1 failed (unavailable)")
	s.opens(nil)
	s.hasTransmitted("b 1")
}

// A refusal for good fails one message at once, and the others go on.
func TestRefusedForGood(t *testing.T) {
	s := newScript(t)
	a, b := s.sends(chat, "a"), s.sends(chat, "b")
	s.gets(&wirepb.PIMError{ClientMessageId: a[:], Kind: wirepb.ErrorKind_ERROR_KIND_TOO_LARGE})
	s.gets(ackFor(b, 1))
	s.fared("1 queued, 1 sending, 2 queued, 2 sending, 1 failed (too_large), 2 sent")
	if s.failed[a].Kind != pim.KindTooLarge || s.store.outbox[a].Failed == nil {
		t.Errorf("failed: %v, stored %+v", s.failed, s.store.outbox)
	}
}

// A server that is busy with a conversation names a time; until then nothing is sent there, and others go on.
func TestBusyConversation(t *testing.T) {
	s := newScript(t)
	a := s.sends(chat, "a")
	s.gets(&wirepb.PIMError{ClientMessageId: a[:], Kind: wirepb.ErrorKind_ERROR_KIND_OVERLOADED, Retryable: true, RetryAfterMs: 2500})
	s.sends(chat, "b")
	s.sends("d:alice:carol", "c")
	s.fared("1 queued, 1 sending, 1 waiting (overloaded), 2 queued, 3 queued, 3 sending")
	s.hasTransmitted("a 1", "c 1")
	s.w.passes(2 * time.Second)
	s.hasTransmitted()
	s.w.passes(900 * time.Millisecond)
	s.hasTransmitted("a 2")
	s.gets(ackFor(a, 1))
	s.hasTransmitted("b 1")
}

// A busy conversation is left alone by messages that wait for their answers, too.
func TestBusyConversationHoldsResends(t *testing.T) {
	s := newScript(t)
	a := s.sends(chat, "a")
	s.sends(chat, "b")
	s.sends("d:alice:carol", "c")
	s.gets(&wirepb.PIMError{ClientMessageId: a[:], Kind: wirepb.ErrorKind_ERROR_KIND_OVERLOADED, Retryable: true, RetryAfterMs: 8_000})
	s.hasTransmitted("a 1", "b 1", "c 1")
	s.lives(8 * time.Second)
	s.hasTransmitted("c 2")
	s.lives(2 * time.Second)
	s.hasTransmitted("b 2", "c 3", "a 2")
}

// If one conversation after the other is refused, everything waits, and then the one that was not refused goes first. When it is
// accepted, all go on.
func TestBusyServer(t *testing.T) {
	s := newScript(t)
	sends := func(text string) pim.ClientMessageID {
		return s.sends(pim.Direct("alice", pim.UserID("bob-"+text)), text)
	}
	refuse := func(id pim.ClientMessageID) {
		s.gets(&wirepb.PIMError{ClientMessageId: id[:], Kind: wirepb.ErrorKind_ERROR_KIND_OVERLOADED, Retryable: true, RetryAfterMs: 100})
	}
	refuse(sends("a"))
	b := sends("b")
	s.hasTransmitted("a 1", "b 1")
	refuse(b) // up to 1 s
	c := sends("c")
	s.w.passes(499 * time.Millisecond)
	s.hasTransmitted()
	s.w.passes(time.Millisecond)
	s.hasTransmitted("c 1")
	refuse(c) // up to 2 s
	s.w.passes(999 * time.Millisecond)
	d := sends("d")
	s.hasTransmitted()
	s.w.passes(time.Millisecond)
	s.hasTransmitted("d 1", "a 2")
	ack := ackFor(d, 1)
	ack.Conversation = string(pim.Direct("alice", "bob-d"))
	s.gets(ack)
	s.hasTransmitted("b 2", "c 2")
}

// However long a server wants to be left alone, it is asked again while the
// connection lives: at most after 10 minutes and a quarter of them.
func TestBusyForWeeks(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPush{Behind: true})
	s.must(engine.Ask{ID: 1, Conversation: chat})
	s.gets(push(2))
	a := s.sends("d:alice:carol", "a")
	busy := func(m *wirepb.PIMError) {
		m.Kind, m.Retryable, m.RetryAfterMs = wirepb.ErrorKind_ERROR_KIND_OVERLOADED, true, math.MaxUint32
		s.gets(m)
	}
	asked := 0
	for _, m := range s.up {
		switch m := m.(type) {
		case *wirepb.PIMSyncReq:
			busy(&wirepb.PIMError{RequestId: m.RequestId})
		case *wirepb.PIMPullReq:
			busy(&wirepb.PIMError{RequestId: m.RequestId})
			asked++
		}
	}
	if asked != 2 {
		t.Fatalf("%d pulls", asked)
	}
	busy(&wirepb.PIMError{ClientMessageId: a[:]})
	s.sends("d:alice:carol", "b")
	s.quiets()
	s.lives(750 * time.Second)
	var got []string
	for _, m := range s.up {
		switch m := m.(type) {
		case *wirepb.PIMSyncReq, *wirepb.PIMPullReq, *wirepb.PIMSendReq:
			got = append(got, show(m))
		}
	}
	for _, want := range []string{"sync full=false after=", "pull 1..1", "pull 0..0", "send b attempt 1"} {
		if !slices.Contains(got, want) {
			t.Errorf("transmits %q, and no %q", got, want)
		}
	}
}

// A refusal without a time is about the message, and only that one waits.
func TestRefusedForNow(t *testing.T) {
	s := newScript(t)
	a := s.sends(chat, "a")
	s.gets(&wirepb.PIMError{ClientMessageId: a[:], Kind: wirepb.ErrorKind_ERROR_KIND_INTERNAL, Retryable: true})
	s.sends(chat, "b")
	s.hasTransmitted("a 1", "b 1")
	s.w.passes(time.Second)
	s.hasTransmitted("a 2")
}

// A join or leave decides who reads what comes behind it, so nothing overtakes it.
func TestNothingOvertakesAJoin(t *testing.T) {
	const group = pim.ConversationID("g:team")
	s := newScript(t)
	before := s.sends(group, "before")
	join := s.queues(engine.Outgoing{Conversation: group, Kind: pim.EntryJoin, Members: []pim.UserID{"bob"}})
	s.sends(group, "after")
	s.sends(chat, "elsewhere")
	s.hasTransmitted("before 1", "elsewhere 1")
	answer := ackFor(before, 1)
	answer.Conversation = string(group)
	s.gets(answer)
	s.hasTransmitted(" 1")
	answer = ackFor(join, 2)
	answer.Conversation = string(group)
	s.gets(answer)
	s.hasTransmitted("after 1")
}

// The server remembers a message for a week. One that went out longer ago, and
// was not heard of since, must not go out again by itself.
func TestNotSentAgainWhenForgotten(t *testing.T) {
	s := newScript(t)
	id := s.sends(chat, "a")
	s.dies()
	s.w.passes(pim.DedupWindow)
	s.starts()
	s.opens(nil)
	s.hasTransmitted()
	if f := s.store.outbox[id].Failed; f == nil || f.Kind != pim.KindTimeout {
		t.Errorf("stored: %+v", s.store.outbox[id])
	}
}

// Nor does it go out again by hand, whenever the button was pressed: the server's
// memory counts from its first transmission.
func TestNotResentWhenForgotten(t *testing.T) {
	sleeps := func(s *script, days int) {
		s.dies()
		s.w.passes(time.Duration(days) * 24 * time.Hour)
		s.starts()
	}
	for name, again := range map[string]func(s *script, id pim.ClientMessageID){
		"too late": func(s *script, id pim.ClientMessageID) {
			sleeps(s, 8)
			s.opens(nil)
			s.refuses(pim.KindTimeout, engine.Resend{ID: id})
		},
		"too late, before the time is known": func(s *script, id pim.ClientMessageID) {
			sleeps(s, 8)
			s.must(engine.Resend{ID: id})
			s.opens(nil)
		},
		"in time, and connected too late": func(s *script, id pim.ClientMessageID) {
			sleeps(s, 6)
			s.must(engine.Resend{ID: id})
			sleeps(s, 2)
			s.opens(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			id := s.sends(chat, "a")
			s.loses()
			s.w.passes(4 * time.Minute)
			again(s, id)
			s.hasTransmitted()
			if f := s.store.outbox[id].Failed; f == nil || f.Kind != pim.KindTimeout && f.Kind != pim.KindUnavailable {
				t.Errorf("stored: %+v", s.store.outbox[id])
			}
		})
	}
}

// A store that was restored from a backup may have been copied when the message
// was queued, and the message gone out after that. If the server may have
// forgotten it by now, the user decides.
func TestOldBackup(t *testing.T) {
	for _, test := range []struct {
		name   string
		behind bool
		age    pim.Millis
		want   []string
	}{
		{"of this week", true, 6 * day, []string{"old 1"}},
		{"older", true, 8 * day, nil},
		{"no backup: the first connection", false, 8 * day, []string{"old 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newOffline(t)
			id := s.w.id()
			s.store.meta = engine.Meta{Number: 1}
			s.store.outbox[id] = engine.Outgoing{
				ID: id, Number: 1, Conversation: chat, Kind: pim.EntryMessage, Payload: []byte("old"), Queued: s.w.server.Now() - test.age,
			}
			welcome := &wirepb.Welcome{User: "alice", ServerMs: int64(s.w.server.Now())}
			if test.behind {
				s.store.meta.User, s.store.meta.AckSerial = "alice", 3
				welcome.StorageBehind, welcome.AckSerial = true, 40
			}
			s.starts()
			s.session = s.w.server.Connect(nil)
			s.step(engine.Dialled{Token: "alice"})
			s.gets(welcome)
			s.hasTransmitted(test.want...)
		})
	}
}

// Many failures do not fill the outbox for ever.
func TestFailedAreBounded(t *testing.T) {
	s := newScript(t)
	for range 1001 {
		id := s.sends(chat, "x")
		s.gets(&wirepb.PIMError{ClientMessageId: id[:], Kind: wirepb.ErrorKind_ERROR_KIND_FORBIDDEN})
	}
	if n := len(s.store.outbox); n != 1000 {
		t.Errorf("%d failed messages are kept", n)
	}
}

// A kill does not change what comes of a message: the 180 s go on from its first
// transmission, and when they are over it has failed, for whoever wrote it to decide.
func TestRestartKeepsTheDeadline(t *testing.T) {
	for away, left := range map[time.Duration]time.Duration{
		0: 175 * time.Second, 100 * time.Second: 75 * time.Second, 174 * time.Second: time.Second,
		175 * time.Second: 0, 100 * time.Hour: 0,
	} {
		t.Run(away.String(), func(t *testing.T) {
			s := newScript(t)
			id := s.sends(chat, "hi")
			sentAt := s.w.now
			s.lives(5 * time.Second)
			s.dies()
			s.w.passes(away)
			s.starts()
			s.opens(nil)
			s.lives(max(0, sentAt+5*time.Second+away+left-s.w.now-time.Second))
			if left > 1*time.Second && s.store.outbox[id].Failed != nil {
				t.Fatalf("failed %v early: %v", sentAt+180*time.Second-s.w.now, s.store.outbox[id].Failed)
			}
			s.lives(3 * time.Second)
			if m := s.store.outbox[id]; m.Failed == nil || m.Failed.Kind != pim.KindTimeout {
				t.Fatalf("%v after its transmission: %+v", s.w.now-sentAt, m.Failed)
			}
			// It may have arrived: then it was sent, and once.
			s.must(engine.Resend{ID: id})
			s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(chat), Seq: 1, Count: 1, Duplicate: true})
			if len(s.store.outbox) > 0 {
				t.Errorf("still in the outbox: %v", s.store.outbox)
			}
		})
	}
}

// The server's clock is a year ahead for a while: what waits for its answer, or to be
// sent for the first time, does not grow old by that.
func TestServerClockAYearAhead(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.sends(chat, "a")
	s.hasTransmitted("a 1")
	s.loses()
	command := s.does(rename("bob", "Bob"))
	right := s.w.server.Now
	s.w.server.Now = func() pim.Millis { return right() + 365*day }
	s.opens(nil)
	s.hasTransmitted("a 2", string(s.store.outbox[command].Payload)+" 1")
	if len(s.store.outbox) != 2 {
		t.Errorf("stored: %v", s.store.outbox)
	}
}
