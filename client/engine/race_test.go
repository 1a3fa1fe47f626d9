package engine_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// racer is an engine whose test answers the dials itself.
type racer struct {
	*script
	dialled  []engine.Dial
	asked    []engine.Question
	hungUp   []uint64
	networks []engine.Network // stored last
}

func newRacer(t *testing.T, servers ...string) *racer {
	w := newWorld(t, func() float64 { return 0.5 })
	p := w.device("alice", "phone")
	p.engine = engine.New(engine.Config{
		User: "alice", Device: "phone", Servers: servers, Random: w.random,
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
	}, p.store.snapshot())
	r := &racer{script: &script{phone: p, t: t}}
	r.does(engine.Start{})
	return r
}

// does steps the engine at the present time.
func (r *racer) does(in engine.Input) {
	r.t.Helper()
	if err := r.engine.Step(r.time(), in); err != nil {
		r.t.Fatal(err)
	}
	out := r.engine.Take()
	r.dialled = append(r.dialled, out.Dials...)
	r.asked = append(r.asked, out.Questions...)
	r.hungUp = append(r.hungUp, out.Hangups...)
	r.up = append(r.up, out.Frames...)
	r.events = append(r.events, out.Events...)
	if out.Store.Networks != nil {
		r.networks = out.Store.Networks
	}
}

// waits lets time pass, with a step whenever the engine asks for one.
func (r *racer) waits(d time.Duration) {
	r.t.Helper()
	until := r.w.now + d
	for range 1000 {
		at, ok := r.engine.Deadline()
		if !ok || at > until {
			r.w.now = until
			return
		}
		r.w.now = max(at, r.w.now)
		r.does(engine.Tick{})
	}
	r.t.Fatal("the engine asks to be called again and again")
}

func (r *racer) dials(want ...string) {
	r.t.Helper()
	var got []string
	for _, d := range r.dialled {
		got = append(got, d.Server)
	}
	r.dialled = nil
	if !slices.Equal(got, want) {
		r.t.Fatalf("dials %q, want %q", got, want)
	}
}

func (r *racer) hangsUp(want ...uint64) {
	r.t.Helper()
	got := r.hungUp
	r.hungUp = nil
	if !slices.Equal(got, want) {
		r.t.Fatalf("hangs up %v, want %v", got, want)
	}
}

// connects makes attempt n the connection.
func (r *racer) connects(n uint64, welcome *wirepb.Welcome) {
	r.t.Helper()
	r.does(engine.Dialled{Attempt: n})
	r.linked = n
	welcome.User, welcome.ServerMs = "alice", int64(r.w.server.Now())
	r.does(engine.Frame{Attempt: n, Message: welcome})
	if r.engine.State() != engine.Connected {
		r.t.Fatalf("state %s", r.engine.State())
	}
}

// Servers that swallow everything cost 2.5 s each; the first that answers is
// taken, and the others are let go.
func TestRace(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b", "wss://c", "wss://d")
	r.waits(2500*time.Millisecond - 1)
	r.dials("wss://a")
	r.waits(1)
	r.dials("wss://b")
	r.waits(10 * time.Second)
	r.dials("wss://c") // three at most
	r.does(engine.Dialled{Attempt: 2})
	r.hangsUp(1, 3)
	if h, ok := r.up[0].(*wirepb.Hello); !ok || len(r.up) != 1 {
		t.Errorf("transmitted %v, want one Hello", h)
	}
	r.does(engine.Dialled{Attempt: 3}) // too late
	r.hangsUp(3)
	r.does(engine.Lost{Attempt: 1, Err: errors.New("late news")})
	if r.engine.State() != engine.Connecting || len(r.up) != 1 {
		t.Errorf("state %s, transmitted %v", r.engine.State(), r.up)
	}
}

// A round ends after 15 s, and the next one goes on with the servers that have
// not had their turn.
func TestRoundEnds(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b", "wss://c", "wss://d")
	r.waits(15 * time.Second)
	r.dials("wss://a", "wss://b", "wss://c")
	r.hangsUp(1, 2, 3)
	r.waits(250 * time.Millisecond)
	r.dials("wss://d")
}

// A refused attempt lets another server have its turn at once; when all have
// refused, the next round waits.
func TestRefusedAttempts(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b")
	r.does(engine.Lost{Attempt: 1, Err: errors.New("refused")})
	r.dials("wss://a", "wss://b")
	r.does(engine.Lost{Attempt: 2, Err: errors.New("refused")})
	r.dials()
	if ev := r.events[len(r.events)-1].(engine.StateEvent); ev.State != engine.Waiting || ev.RetryIn != 250*time.Millisecond {
		t.Errorf("then: %+v", ev)
	}
}

// A gateway that is full says when to come back; not all who were told so do that at
// the same time.
func TestRetryAfter(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{
		0:               250 * time.Millisecond,
		8 * time.Second: 9 * time.Second, // and half of a quarter
		time.Hour:       675 * time.Second,
	} {
		r := newRacer(t, "wss://a")
		r.does(engine.Lost{Attempt: 1, Err: &pim.Error{Kind: pim.KindUnavailable, RetryAfter: after}})
		if ev := r.events[len(r.events)-1].(engine.StateEvent); ev.State != engine.Waiting || ev.RetryIn != want {
			t.Errorf("told to come back after %v: %+v, want %v", after, ev, want)
		}
	}
}

// What is said of an attempt that was hung up means nothing to the next round.
func TestStaleLoss(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b")
	r.does(engine.NetworkChanged{})
	r.dials("wss://a", "wss://a")
	r.does(engine.Lost{Attempt: 1, Err: errors.New("late news")})
	r.waits(2500*time.Millisecond - 1)
	r.dials()
	r.does(engine.Lost{Attempt: 2, Err: errors.New("refused")})
	r.dials("wss://b")
}

// The last good server is tried first.
func TestGoodServerFirst(t *testing.T) {
	r := newRacer(t, "wss://a", "wss://b")
	r.waits(2500 * time.Millisecond)
	r.connects(2, &wirepb.Welcome{})
	r.dials("wss://a", "wss://b")
	r.waits(2 * time.Second)
	r.does(engine.Lost{Attempt: 2, Err: errors.New("cut")})
	r.waits(time.Second)
	r.dials("wss://b")
}

// The first wait is spread over the window that the server gave; the next ones
// back off.
func TestWindow(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.connects(1, &wirepb.Welcome{ReconnectWindowMs: 20_000})
	r.waits(time.Second)
	var waits []time.Duration
	for n := range uint64(3) {
		r.does(engine.Lost{Attempt: n + 1, Err: errors.New("cut")})
		wait := r.events[len(r.events)-1].(engine.StateEvent).RetryIn
		waits = append(waits, wait)
		r.waits(wait)
	}
	if want := []time.Duration{10 * time.Second, 250 * time.Millisecond, 500 * time.Millisecond}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

// A window is honoured up to 10 minutes; without one the first wait is as short as
// the backoff. A connection that breaks at once is a failure.
func TestWindowBounds(t *testing.T) {
	for _, test := range []struct {
		window uint32
		lived  time.Duration
		want   time.Duration // the middle of where the wait may lie
	}{
		{0, time.Second, 250 * time.Millisecond},
		{3_600_000, time.Second, 5 * time.Minute},
		{20_000, time.Second - 1, 250 * time.Millisecond},
	} {
		r := newRacer(t, "wss://a")
		r.connects(1, &wirepb.Welcome{ReconnectWindowMs: test.window})
		r.waits(test.lived)
		r.does(engine.Lost{Attempt: 1, Err: errors.New("cut")})
		if got := r.events[len(r.events)-1].(engine.StateEvent).RetryIn; got != test.want {
			t.Errorf("window %d ms, lived %v: waits %v, want %v", test.window, test.lived, got, test.want)
		}
	}
}

// A server that leaves names others. Those are tried first, after its window, but
// none that is less protected; once a connection was good they are forgotten.
func TestGoAwayNamesOthers(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.connects(1, &wirepb.Welcome{})
	r.dials("wss://a")
	r.does(engine.Frame{Attempt: 1, Message: &wirepb.PIMGoAway{
		Code: 1001, Reconnect: true, WindowMs: 4000,
		Alternatives: []string{"ws://evil", "wss://b"},
	}})
	r.hangsUp(1)
	r.waits(2*time.Second - 1)
	r.dials()
	r.waits(1)
	r.dials("wss://b")
	r.waits(2500 * time.Millisecond)
	r.dials("wss://a")
	r.connects(3, &wirepb.Welcome{})
	r.hangsUp(2)
	r.does(engine.Lost{Attempt: 3, Err: errors.New("cut")})
	r.waits(10 * time.Second)
	r.dials("wss://a", "wss://a", "wss://a")
}

func TestNetworkChanged(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.does(engine.NetworkChanged{Name: "wifi"}) // while it dials
	r.dials("wss://a", "wss://a")
	r.hangsUp(1)
	r.connects(2, &wirepb.Welcome{})
	r.does(engine.NetworkChanged{Name: "mobile"})
	r.dials("wss://a")
	r.hangsUp(2)
	r.does(engine.Lost{Attempt: 3, Err: errors.New("refused")})
	if r.engine.State() != engine.Waiting {
		t.Fatalf("state %s", r.engine.State())
	}
	r.does(engine.NetworkChanged{Name: "wifi"}) // instead of waiting
	r.dials("wss://a")
}

func TestOffline(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.connects(1, &wirepb.Welcome{})
	r.dials("wss://a")
	r.does(engine.Online{On: false})
	r.hangsUp(1)
	r.does(engine.Online{On: false})
	r.does(engine.NetworkChanged{Name: "wifi"})
	r.does(engine.Send{Message: engine.Outgoing{ID: r.w.id(), Conversation: chat, Kind: pim.EntryMessage}})
	r.waits(time.Hour)
	r.dials()
	r.hangsUp()
	if r.engine.State() != engine.Offline {
		t.Fatalf("state %s", r.engine.State())
	}
	r.does(engine.Online{On: true})
	r.dials("wss://a")
	r.connects(2, &wirepb.Welcome{})
}

// Hellos that were given up may reach the server after the next one, and replace
// it. That is no reason to stop: once for each such Hello, and once for one that the
// process before may have left when it was killed.
func TestDeviceThatReplacesItself(t *testing.T) {
	for _, strays := range []int{1, 2, 3, 4} {
		r := newRacer(t, "wss://a")
		next := func() uint64 {
			for r.engine.State() == engine.Waiting {
				r.waits(100 * time.Millisecond)
			}
			return r.dialled[len(r.dialled)-1].Attempt
		}
		for range strays - 1 {
			r.does(engine.Dialled{Attempt: next()})
			r.waits(10 * time.Second) // no Welcome
		}
		for n := range strays + 1 {
			attempt := next()
			r.connects(attempt, &wirepb.Welcome{})
			r.does(engine.Frame{Attempt: attempt, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced)}})
			want := engine.Waiting // replaced by itself
			if n == strays {
				want = engine.Stopped // by another
			}
			if got := r.engine.State(); got != want {
				t.Fatalf("%d Hellos without an answer, replaced for the %d. time: %s, want %s", strays, n+1, got, want)
			}
		}
	}
}

// No Hello is on its way for long: a device that is replaced later is replaced by another.
func TestDeviceThatIsReplacedLater(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.connects(1, &wirepb.Welcome{})
	r.w.now += 3 * time.Minute
	r.does(engine.Frame{Attempt: 1, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced)}})
	if got := r.engine.State(); got != engine.Stopped {
		t.Fatalf("state %s", got)
	}
}

// A gateway that says when to come back is asked at its time, although an attempt at a dark one is under way until the
// round ends, after 15 s: whoever was refused would otherwise come back only then, with all the others.
func TestToldBesideADarkServer(t *testing.T) {
	r := newRacer(t, "wss://dark", "wss://full")
	full := func(n uint64, after time.Duration) {
		r.does(engine.Lost{Attempt: n, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: after}})
	}
	r.waits(2500 * time.Millisecond)
	r.dials("wss://dark", "wss://full")
	full(2, 4*time.Second) // until 7 s
	r.waits(4500*time.Millisecond - 1)
	r.dials()
	r.waits(1)
	r.dials("wss://full")
	full(3, 2*time.Second) // until 9.25 s; an attempt follows 2.5 s after the one before
	r.waits(2500 * time.Millisecond)
	r.dials("wss://full")
	r.hangsUp()
	r.connects(4, &wirepb.Welcome{})
	r.hangsUp(1)
}

// However soon a gateway wants to be asked again, an attempt follows 2.5 s after the one before.
func TestToldAgainAndAgain(t *testing.T) {
	r := newRacer(t, "wss://dark", "wss://full")
	dialled := 0
	for range 100 {
		r.waits(100 * time.Millisecond)
		dials := r.dialled
		r.dialled = nil
		for _, d := range dials {
			if dialled++; d.Server == "wss://full" {
				r.does(engine.Lost{Attempt: d.Attempt, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: time.Millisecond}})
			}
		}
	}
	if dialled > 6 {
		t.Errorf("%d attempts in one round", dialled)
	}
}
