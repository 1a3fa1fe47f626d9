package engine_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// turnsAway answers the attempt's Hello with a refusal: a PIMError if after is not 0, and a
// PIMGoAway.
func (r *racer) turnsAway(attempt uint64, after, window time.Duration, alternatives ...string) {
	r.t.Helper()
	r.does(engine.Dialled{Attempt: attempt})
	if after != 0 {
		r.does(engine.Frame{Attempt: attempt, Message: &wirepb.PIMError{
			Kind: wirepb.ErrorKind(pim.KindOverloaded), Retryable: true, RetryAfterMs: uint32(after / time.Millisecond),
		}})
	}
	r.does(engine.Frame{Attempt: attempt, Message: &wirepb.PIMGoAway{
		Code: uint32(wire.CodeOverloaded), Reconnect: true, WindowMs: uint32(window / time.Millisecond), Alternatives: alternatives,
	}})
}

// waitsFor checks that the app was told last of a wait of so long, because a server is overloaded.
func (r *racer) waitsFor(want time.Duration) {
	r.t.Helper()
	ev, ok := r.events[len(r.events)-1].(engine.StateEvent)
	if !ok || ev.State != engine.Waiting || ev.RetryIn != want || pim.KindOf(ev.Err) != pim.KindOverloaded {
		r.t.Fatalf("the app is told %+v, want %v because a server is overloaded", ev, want)
	}
}

// A server that turns the client away is left alone for the time that it names; the others are
// asked with the usual backoff. When all have said so the first that may be asked is.
func TestTurnedAway(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b", "wss://c")
	r.dials("wss://a")
	r.turnsAway(1, 20*time.Second, 40*time.Second) // until 30 s from now
	r.waitsFor(250 * time.Millisecond)
	r.waits(250 * time.Millisecond)
	r.dials("wss://b")
	r.turnsAway(2, 0, 20*time.Second) // 10 s from now
	r.waitsFor(500 * time.Millisecond)
	r.waits(500 * time.Millisecond)
	r.dials("wss://c")
	r.does(engine.Lost{Attempt: 3, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: 40 * time.Second}}) // 45 s
	r.waitsFor(9500 * time.Millisecond)
	r.waits(9500*time.Millisecond - 1)
	r.dials()
	r.waits(1)
	r.dials("wss://b")
	r.turnsAway(4, 0, 4*time.Second)
	r.waitsFor(2 * time.Second)
	r.waits(2 * time.Second)
	r.dials("wss://b")
	r.waits(15 * time.Second) // no answer, and no other to ask
	r.dials("wss://b", "wss://b")
	r.waits(18 * time.Second) // half a second less
	for _, d := range r.dialled {
		if d.Server == "wss://c" {
			t.Error("c is dialled before its time")
		}
	}
}

// Nothing that the app does makes the client come to a busy server, and to no other address of it.
func TestTurnedAwayForGood(t *testing.T) {
	for name, act := range map[string]func(*racer){
		"another network": func(r *racer) { r.does(engine.NetworkChanged{Name: "wifi"}) },
		"reconnect":       func(r *racer) { r.does(engine.Reconnect{}) },
		"in front":        func(r *racer) { r.does(engine.Foreground{On: true}) },
		"off and on": func(r *racer) {
			r.does(engine.Online{On: false})
			r.does(engine.Online{On: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRacer(t, "wss://a:7400", "tls://a:7401")
			r.dials("wss://a:7400")
			r.turnsAway(1, 20*time.Second, 0)
			r.waitsFor(22500 * time.Millisecond)
			for range 22 {
				act(r)
				r.waits(time.Second)
			}
			act(r)
			r.waits(500*time.Millisecond - 1)
			r.dials()
			r.waits(1)
			if len(r.dialled) != 1 {
				t.Errorf("dials %v", r.dialled)
			}
		})
	}
}

// The time of a refusal counts from the PIMError, also if the app interrupts what comes next.
func TestTurnedAwayHalfWay(t *testing.T) {
	for name, act := range map[string]engine.Input{
		"the app reconnects":  engine.Reconnect{},
		"the connection ends": engine.Lost{Attempt: 1, Err: errors.New("cut")},
		"the close code":      engine.Lost{Attempt: 1, Err: errors.New("closed"), Code: wire.CodeOverloaded},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRacer(t, "wss://a")
			r.does(engine.Dialled{Attempt: 1})
			r.does(engine.Frame{Attempt: 1, Message: &wirepb.PIMError{Kind: wirepb.ErrorKind(pim.KindOverloaded), RetryAfterMs: 8000}})
			r.dials("wss://a")
			r.does(act)
			r.waitsFor(9 * time.Second)
			r.waits(9*time.Second - 1)
			r.dials()
			r.waits(1)
			r.dials("wss://a")
		})
	}
}

// A refusal ends the other attempts at the same server.
func TestAttemptsAtBusyServer(t *testing.T) {
	r := newRacer(t, "wss://a:7400", "tls://a:7401", "wss://b")
	r.waits(5 * time.Second)
	r.dials("wss://a:7400", "tls://a:7401", "wss://b")
	r.does(engine.Lost{Attempt: 1, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: time.Minute}})
	r.hangsUp(2)
	r.connects(3, &wirepb.Welcome{})
	r.waits(2 * time.Second)
	r.does(engine.Reconnect{})
	r.does(engine.Lost{Attempt: 4, Err: errors.New("refused")})
	r.dials("wss://b") // the refusal outlives the Welcome of another server
}

// Nodes of a cluster on one host are told apart by their ports: the next one is asked at once.
func TestTurnedAwayOnOneHost(t *testing.T) {
	r := newRacer(t, "http://127.0.0.1:7400", "http://127.0.0.1:8400")
	r.does(engine.Lost{Attempt: 1, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: time.Minute}})
	r.dials("http://127.0.0.1:7400", "http://127.0.0.1:8400")
}

// A busy server may name others. Those are asked with the usual backoff.
func TestTurnedAwayElsewhere(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.dials("wss://a")
	r.turnsAway(1, 0, time.Minute, "wss://a", "tls://a:1", "wss://b")
	r.waitsFor(250 * time.Millisecond)
	r.waits(250 * time.Millisecond)
	r.dials("wss://b")
}

// A connection that stood ends in the same way. The wait for another server is that of any loss.
func TestSentAwayBecauseOverloaded(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b")
	r.connects(1, &wirepb.Welcome{ReconnectWindowMs: 2000})
	r.waits(2 * time.Second)
	r.dials("wss://a")
	r.does(engine.Frame{Attempt: 1, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeOverloaded), Reconnect: true, WindowMs: 60_000}})
	r.waitsFor(time.Second)
	r.waits(time.Second)
	r.dials("wss://b")
	r.does(engine.Lost{Attempt: 2, Err: errors.New("refused")})
	r.waits(28*time.Second + 900*time.Millisecond)
	for _, d := range r.dialled {
		if d.Server == "wss://a" {
			t.Error("a is dialled before its time")
		}
	}
}
