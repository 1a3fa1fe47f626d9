package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A connection that goes silent is noticed by its heartbeat, within 8 s of it.
func TestHalfOpenIsNoticedByTheHeartbeat(t *testing.T) {
	s := newScript(t) // heartbeats every 30 s: the server closes after 60
	s.quiets()
	s.w.passes(30*time.Second - 1)
	s.transmits()
	s.w.passes(1)
	s.transmits("PIMPing", "sync full=false after=") // a lost push is noticed with the heartbeat
	s.gets(nil)                                      // a frame of a type that is not known is a sign of life
	s.gets(&wirepb.PIMSyncResp{RequestId: 2})
	s.w.passes(38*time.Second - 1)
	if s.engine.State() != engine.Connected {
		t.Fatal("given up too early")
	}
	s.w.passes(1)
	if s.engine.State() == engine.Connected || s.session != nil {
		t.Fatalf("state %s after a ping without an answer", s.engine.State())
	}
}

// A device that waits for an answer notices a silent connection within 10 s.
func TestHalfOpenIsNoticedWhileASendWaits(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.w.passes(20 * time.Second)
	s.sends(chat, "a")
	s.w.passes(10*time.Second - 1)
	if s.engine.State() != engine.Connected {
		t.Fatal("given up too early")
	}
	s.transmits("send a attempt 1", "PIMPing", "send a attempt 2", "send a attempt 3")
	s.w.passes(1)
	if s.engine.State() == engine.Connected || s.session != nil {
		t.Fatalf("state %s after 10 s of silence", s.engine.State())
	}
}

// A server that lives and does not answer is left after three requests.
func TestUnansweredRequests(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.sends(chat, "a")
	for range 20 {
		s.w.passes(time.Second)
		s.gets(&wirepb.PIMPong{})
	}
	s.transmits("send a attempt 1", "send a attempt 2", "send a attempt 3")
	s.w.passes(time.Second)
	if s.engine.State() == engine.Connected {
		t.Error("still connected")
	}
}

// Requests without an answer are made again in their order, and not in a map's:
// the same inputs make the same outputs.
func TestUnansweredPullsKeepTheirOrder(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	newest := map[pim.ConversationID]uint64{}
	var want []string
	for i := range uint64(8) {
		c := pim.ConversationID(fmt.Sprint("g:", i))
		newest[c] = 20 - i
		want = append(want, fmt.Sprint(c, " 1..0 up 100"))
	}
	s.lists(newest)
	for i := range 8 {
		c := pim.ConversationID(fmt.Sprint("g:asked", i))
		s.must(engine.Ask{ID: uint64(i + 1), Conversation: c})
		want = append(want, fmt.Sprint(c, " 0..0 up 0"))
	}
	s.hasPulled(want...)
	for range 10 {
		s.w.passes(time.Second)
		s.gets(&wirepb.PIMPong{})
	}
	s.hasPulled(want...)
}

// A burst that is answered late is no dead connection: requests that fail together
// count once. Without any answer the connection is left as early as for one message.
func TestUnansweredBurst(t *testing.T) {
	s := newScript(t)
	s.quiets()
	for range 3 {
		s.sends(chat, "a")
	}
	for range 20 {
		s.w.passes(time.Second)
		s.gets(&wirepb.PIMPong{})
	}
	if s.engine.State() != engine.Connected {
		t.Fatal("given up too early")
	}
	s.w.passes(time.Second)
	if s.engine.State() == engine.Connected {
		t.Error("still connected")
	}
}

// A device that sends all the time waits for two RequestTimeouts, as long as other
// frames come. An answer to any request ends the row of unanswered ones.
func TestUnansweredWhileSending(t *testing.T) {
	s := newScript(t)
	s.quiets()
	lasts := func(seconds int) {
		t.Helper()
		for i := range seconds {
			s.sends(chat, "a")
			s.w.passes(time.Second)
			s.gets(&wirepb.PIMPong{})
			if s.engine.State() != engine.Connected {
				t.Fatalf("left after %d s", i+1)
			}
		}
	}
	lasts(19)
	s.gets(&wirepb.PIMError{ClientMessageId: []byte("0000000000000001"), Retryable: true, RetryAfterMs: 1})
	lasts(19)
	for range 60 {
		s.w.passes(time.Second)
		s.gets(&wirepb.PIMPong{})
	}
	if s.engine.State() == engine.Connected {
		t.Error("still connected")
	}
}

// A process that stood still sends a ping before it takes the connection for dead.
func TestProcessStoodStill(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.sends(chat, "a")
	s.w.now += 20 * time.Second
	s.skew -= 1000 // and a wall clock that goes back is no sleep
	s.step(engine.Tick{})
	s.w.passes(7*time.Second - 1)
	if s.engine.State() != engine.Connected {
		t.Fatal("given up without having asked")
	}
	s.w.passes(1)
	if s.engine.State() == engine.Connected {
		t.Error("still connected")
	}
}

// After a sleep, in which the monotonic clock stood still, the connection has to
// prove itself.
func TestSleep(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.skew += 3_600_000
	s.w.passes(8*time.Second - 1)
	s.step(engine.Tick{})
	s.transmits("PIMPing")
	s.w.passes(8 * time.Second)
	if s.engine.State() == engine.Connected {
		t.Error("still connected")
	}
}

// A frame of which bytes keep coming is no silence: no request is made again
// behind it, whatever waits for an answer. When no more come, that is noticed as
// soon as ever.
func TestSlowFrame(t *testing.T) {
	for name, asks := range map[string]func(s *script){
		"a send":      func(s *script) { s.sends(chat, "a") },
		"a pull":      func(s *script) { s.must(engine.Ask{ID: 1, Conversation: chat}) },
		"a list":      func(s *script) { s.gets(&wirepb.PIMPong{Behind: true}) },
		"a gap":       func(s *script) { s.gets(push(3)) },
		"a heartbeat": func(s *script) { s.w.passes(30 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.quiets()
			asks(s)
			s.quiets()
			for range 28 {
				s.w.passes(time.Second - 1)
				s.step(engine.Arriving{Attempt: s.linked, At: s.w.now})
				s.w.passes(1)
			}
			for _, m := range s.up {
				if kind := wire.TypeOf(m); kind != wire.TypePushAck && kind != wire.TypeTimeReq {
					t.Errorf("transmits %s", show(m))
				}
			}
			if s.engine.State() != engine.Connected {
				t.Fatalf("state %s", s.engine.State())
			}
			s.w.passes(10 * time.Second)
			if s.engine.State() == engine.Connected {
				t.Error("still connected 10 s after the last bytes")
			}
		})
	}
}

// A Welcome of which bytes keep coming is not late.
func TestSlowWelcome(t *testing.T) {
	s := newOffline(t)
	s.starts()
	s.session = s.w.server.Connect(nil)
	s.step(engine.Dialled{Token: "alice"})
	for range 5 {
		s.w.passes(9 * time.Second)
		s.step(engine.Arriving{Attempt: s.linked, At: s.w.now})
	}
	s.step(engine.Arriving{Attempt: s.linked + 1, At: s.w.now + time.Second}) // of another attempt
	s.w.passes(10*time.Second - 1)
	if s.session == nil {
		t.Fatal("given up too early")
	}
	s.w.passes(1)
	if s.session != nil {
		t.Error("still waits for Welcome")
	}
}

// While the app does not read, nothing is missed, and the server hears pings.
func TestPausedReadingIsNoSilence(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	s.sends(chat, "a")
	s.step(engine.Pause{On: true})
	s.w.passes(2 * time.Minute)
	s.transmits("send a attempt 1", "PIMPing", "sync full=false after=", "PIMPing", "PIMPing", "PIMPing")
	s.step(engine.Pause{On: false})
	s.w.passes(7 * time.Second)
	s.transmits("send a attempt 2") // with its full time for an answer, from the moment of reading on
	if s.engine.State() != engine.Connected {
		t.Fatalf("state %s", s.engine.State())
	}
}

func TestStops(t *testing.T) {
	for name, end := range map[string]struct {
		in   engine.Input
		kind pim.Kind
	}{
		"replaced":   {engine.Frame{Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced)}}, pim.KindReplaced},
		"protocol":   {engine.Lost{Code: wire.CodeProtocol, Err: errors.New("bad frame")}, pim.KindInvalid},
		"too large":  {engine.Lost{Code: wire.CodeTooLarge}, pim.KindTooLarge},
		"no version": {engine.Lost{Code: wire.CodeUnsupported}, pim.KindUnsupported},
	} {
		s := newScript(t)
		s.step(engine.Ask{ID: 1, Conversation: chat})
		s.w.now += 3 * time.Minute // no Hello of the process before is on its way any more
		s.step(end.in)
		ev, _ := s.events[len(s.events)-1].(engine.StateEvent)
		if ev.State != engine.Stopped || pim.KindOf(ev.Err) != end.kind {
			t.Errorf("%s: %+v", name, ev)
		}
		if _, ok := s.engine.Deadline(); ok {
			t.Errorf("%s: still waits for something", name)
		}
		if len(s.pulled) != 1 || pim.KindOf(s.pulled[0].Err) != end.kind {
			t.Errorf("%s: the app's pull: %+v", name, s.pulled)
		}
		for _, in := range []engine.Input{engine.Online{On: true}, engine.Online{}, engine.NetworkChanged{Name: "wifi"}} {
			if err := s.step(in); pim.KindOf(err) != end.kind || s.engine.State() != engine.Stopped {
				t.Errorf("%s: %T: %v, %s", name, in, err, s.engine.State())
			}
		}
	}
}

// What is sent while the client has stopped is queued and stored, and goes out when
// the app wants a connection again.
func TestReconnectAfterAStop(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.w.now += 3 * time.Minute // no Hello of the process before is on its way any more
	s.step(engine.Frame{Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced)}})
	s.sends(chat, "queued")
	s.w.passes(time.Hour)
	s.transmits()
	if s.engine.State() != engine.Stopped || len(s.store.outbox) != 1 {
		t.Fatalf("%s, %d messages are stored", s.engine.State(), len(s.store.outbox))
	}
	s.step(engine.Reconnect{})
	if s.engine.State() != engine.Connecting {
		t.Fatalf("after Reconnect: %s", s.engine.State())
	}
	s.opens(nil)
	s.transmits("sync full=false after=", "send queued attempt 1")
}

func TestAnotherUsersToken(t *testing.T) {
	for _, storeOf := range []pim.UserID{"", "bob"} {
		w := newWorld(t, func() float64 { return 0 })
		p := w.device("alice", "phone")
		p.store.meta.User = storeOf
		p.starts()
		p.step(engine.Dialled{})
		user := "carol"
		if storeOf != "" {
			user = "alice"
		}
		p.step(engine.Frame{Message: &wirepb.Welcome{User: user}})
		if p.engine.State() != engine.Stopped {
			t.Errorf("store of %q, token of %s: %s", storeOf, user, p.engine.State())
		}
	}
}

// The n-th wait, n from 0, is a random time up to min(BackoffMin·2ⁿ, BackoffMax).
func TestBackoff(t *testing.T) {
	w := newWorld(t, func() float64 { return 0.5 })
	p := w.device("alice", "phone")
	p.starts()
	var waits []time.Duration
	for range 9 {
		p.step(engine.Lost{Err: errors.New("refused")})
		waits = append(waits, p.events[len(p.events)-1].(engine.StateEvent).RetryIn)
		w.passes(waits[len(waits)-1])
		if p.engine.State() != engine.Connecting {
			t.Fatal("does not dial when it is time")
		}
	}
	if got, want := fmt.Sprint(waits), "[250ms 500ms 1s 2s 4s 8s 15s 15s 15s]"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
}
