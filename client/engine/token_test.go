package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// refusals are the ways in which a server says that it does not take a token.
func refusals(attempt uint64) map[string][]engine.Input {
	why := engine.Frame{Attempt: attempt, Message: &wirepb.PIMError{Kind: wirepb.ErrorKind(pim.KindUnauthorized), Text: "the token has expired"}}
	away := engine.Frame{Attempt: attempt, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeUnauthorized), Text: "the token has expired"}}
	return map[string][]engine.Input{
		"a last frame":           {away},
		"an error, a last frame": {why, away},
		"a close code":           {engine.Lost{Attempt: attempt, Code: wire.CodeUnauthorized}},
		"an error, then nothing": {why, engine.Lost{Attempt: attempt, Err: errors.New("EOF")}},
	}
}

// refuse has the server refuse the token of the attempt under way, and returns what
// the app is told.
func (r *racer) refuse(how string) engine.StateEvent {
	r.t.Helper()
	attempt := r.dialled[len(r.dialled)-1].Attempt
	r.does(engine.Dialled{Attempt: attempt})
	for _, in := range refusals(attempt)[how] {
		r.does(in)
	}
	return r.told()
}

// told is what the app was told last of the connection.
func (r *racer) told() engine.StateEvent {
	r.t.Helper()
	ev, ok := r.events[len(r.events)-1].(engine.StateEvent)
	if !ok {
		r.t.Fatalf("told %+v", r.events)
	}
	return ev
}

// A token that is refused is asked for again, after waits that grow to minutes, and
// the app is told each time. When one is good, all is as before.
func TestTokenIsRefused(t *testing.T) {
	for how := range refusals(0) {
		t.Run(how, func(t *testing.T) {
			r := newRacer(t, "wss://a")
			var waits []time.Duration
			for range 11 {
				ev := r.refuse(how)
				if ev.State != engine.Waiting || pim.KindOf(ev.Err) != pim.KindUnauthorized {
					t.Fatalf("told %+v", ev)
				}
				waits = append(waits, ev.RetryIn)
				r.waits(ev.RetryIn)
				if r.engine.State() != engine.Connecting {
					t.Fatal("does not dial when it is time")
				}
			}
			if got, want := fmt.Sprint(waits), "[500ms 1s 2s 4s 8s 16s 32s 1m4s 2m8s 2m30s 2m30s]"; got != want {
				t.Errorf("waits %s, want %s", got, want)
			}
			r.connects(r.dialled[len(r.dialled)-1].Attempt, &wirepb.Welcome{})
			r.w.now += 31 * time.Second
			for _, in := range refusals(r.dialled[len(r.dialled)-1].Attempt)[how] {
				r.does(in)
			}
			if ev := r.told(); ev.State != engine.Waiting || pim.KindOf(ev.Err) != pim.KindUnauthorized || ev.RetryIn > time.Second {
				t.Errorf("when a good one ran out: %+v", ev)
			}
			r.waits(time.Second)
			if ev := r.refuse(how); ev.RetryIn != 500*time.Millisecond {
				t.Errorf("the next refusal: %+v", ev)
			}
		})
	}
}

// A message that fails because there was no connection for long may be sent again,
// whatever kept the connection away: the token was refused, not the message.
func TestMessagesOutliveARefusal(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeUnauthorized, wire.CodeReplaced} {
		s := newScript(t)
		s.quiets()
		s.w.now += 3 * time.Minute
		id := s.sends(chat, "on its way")
		s.step(engine.Lost{Code: code, Err: errors.New("closed")})
		for begun := s.w.now; s.w.now < begun+4*time.Minute; {
			s.w.passes(time.Second)
			if s.engine.State() == engine.Connecting {
				s.step(engine.Dialled{})
				s.step(engine.Lost{Code: wire.CodeUnauthorized})
			}
		}
		if err := s.failed[id]; err == nil || !err.Kind.Retryable() || !strings.HasPrefix(err.Text, "no connection: ") {
			t.Fatalf("%s: failed: %v", code, err)
		}
		if err := s.step(engine.Resend{ID: id}); err != nil {
			t.Errorf("%s: sent again: %v", code, err)
		}
	}
}

// When a gateway refuses the token, or sends the client away for another reason, the
// next gateway is tried.
func TestNextGatewayAfterARefusal(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeUnauthorized, wire.CodeUnavailable} {
		r := newRacer(t, "wss://a", "wss://b")
		for _, want := range []string{"wss://a", "wss://b", "wss://a"} {
			to := r.dialled[len(r.dialled)-1]
			if to.Server != want {
				t.Fatalf("%s: tried at %s, want %s", code, to.Server, want)
			}
			r.does(engine.Dialled{Attempt: to.Attempt})
			r.does(engine.Frame{Attempt: to.Attempt, Message: &wirepb.PIMGoAway{Code: uint32(code), Reconnect: code.Reconnect()}})
			r.waits(r.told().RetryIn)
		}
	}
}

// A Hello that was refused is not on its way any more: a device that is replaced after
// it is replaced by another.
func TestRefusedHelloIsAnswered(t *testing.T) {
	for how := range refusals(0) {
		r := newRacer(t, "wss://a")
		for range 3 {
			r.refuse(how)
			r.waits(r.told().RetryIn)
		}
		attempt := func() uint64 { return r.dialled[len(r.dialled)-1].Attempt }
		for n, want := range []engine.State{engine.Waiting, engine.Stopped} { // at first maybe by a Hello of the process before
			r.connects(attempt(), &wirepb.Welcome{})
			r.does(engine.Frame{Attempt: attempt(), Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced)}})
			if got := r.engine.State(); got != want {
				t.Errorf("%s: replaced for the %d. time: %s", how, n+1, got)
			}
			if want == engine.Waiting {
				r.waits(r.told().RetryIn)
			}
		}
	}
}

// A server that sends Welcome, and refuses the token soon after it, is spared like one
// that refuses the token at once.
func TestTokenIsRefusedBehindWelcome(t *testing.T) {
	r := newRacer(t, "wss://a")
	for n, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second} {
		attempt := r.dialled[len(r.dialled)-1].Attempt
		r.connects(attempt, &wirepb.Welcome{})
		r.w.now += 20 * time.Second
		r.does(engine.Lost{Attempt: attempt, Code: wire.CodeUnauthorized})
		if ev := r.told(); ev.RetryIn != want {
			t.Errorf("refusal %d: %+v, want %v", n+1, ev, want)
		}
		r.waits(r.told().RetryIn)
	}
}

// An app that does something at once whenever it hears of a refusal does not hammer
// at the server; one that has a new token later need not wait.
func TestAppAnswersRefusals(t *testing.T) {
	for _, answer := range []engine.Input{engine.Reconnect{}, engine.NetworkChanged{Name: "wifi"}, engine.Online{On: true}} {
		t.Run(fmt.Sprintf("%T", answer), func(t *testing.T) {
			r := newRacer(t, "wss://a")
			_, online := answer.(engine.Online)
			tried := 0
			for begun := r.w.now; r.w.now < begun+time.Minute; tried++ {
				r.refuse("a last frame")
				for range 3 { // the app answers each event, and its answer may cause another event
					if online {
						r.does(engine.Online{On: false})
					}
					r.does(answer)
				}
				r.waits(r.told().RetryIn)
			}
			if tried < 50 || tried > 61 {
				t.Errorf("%d attempts in a minute", tried)
			}
			for r.told().RetryIn < time.Minute {
				r.refuse("a last frame")
				if r.told().RetryIn < time.Minute {
					r.waits(r.told().RetryIn)
				}
			}
			r.waits(2 * time.Second)
			if online {
				r.does(engine.Online{On: false})
			}
			if r.does(answer); r.engine.State() != engine.Connecting {
				t.Errorf("a new token two seconds later: %s", r.engine.State())
			}
		})
	}
}

// An app that has no token is asked again after the waits for a server that does not
// answer. If its error is of KindUnauthorized, they are those for a server that refuses
// tokens. The app is asked once a round.
func TestAppHasNoToken(t *testing.T) {
	for _, test := range []struct {
		err  pim.Error
		want string
	}{
		{pim.Error{Kind: pim.KindUnavailable}, "[250ms 500ms 1s 2s 4s 8s 15s 15s]"},
		{pim.Error{Kind: pim.KindUnauthorized}, "[500ms 1s 2s 4s 8s 16s 32s 1m4s]"},
		{pim.Error{Kind: pim.KindOverloaded, RetryAfter: 20 * time.Second}, "[22.5s 22.5s 22.5s 22.5s 22.5s 22.5s 22.5s 22.5s]"},
	} {
		r := newRacer(t, "wss://a", "wss://b")
		var waits []time.Duration
		for range 8 {
			asked := len(r.dialled)
			r.does(engine.NoToken{Attempt: r.dialled[asked-1].Attempt, Err: &test.err})
			ev := r.told()
			if ev.State != engine.Waiting || ev.Err != &test.err || len(r.dialled) != asked {
				t.Fatalf("told %+v, %d more attempts", ev, len(r.dialled)-asked)
			}
			waits = append(waits, ev.RetryIn)
			r.waits(ev.RetryIn)
		}
		if got := fmt.Sprint(waits); got != test.want {
			t.Errorf("%v: waits %s, want %s", test.err.Kind, got, test.want)
		}
	}
}

// An attempt that has its token goes on when another gets none; and if none comes
// through, the app is told what was missing.
func TestOneAttemptHasNoToken(t *testing.T) {
	why := pim.Errorf(pim.KindTimeout, "the app gave no token")
	r := newRacer(t, "wss://a", "wss://b")
	r.waits(2500 * time.Millisecond)
	r.does(engine.NoToken{Attempt: 2, Err: why})
	r.does(engine.NoToken{Attempt: 2, Err: why}) // that is known
	r.connects(1, &wirepb.Welcome{})

	r = newRacer(t, "wss://a", "wss://b")
	r.waits(2500 * time.Millisecond)
	r.does(engine.NoToken{Attempt: 1, Err: why})
	r.waits(13 * time.Second)
	for _, ev := range r.events {
		if ev, ok := ev.(engine.StateEvent); ok && ev.State == engine.Waiting && ev.Err == why {
			return
		}
	}
	t.Errorf("told %+v", r.events)
}

// All clients of a server are refused at the same moment, for an hour. After the first
// minutes only few of them come in any second. When the server lets them in again, all
// are back within the longest wait.
func TestAllClientsAreRefusedAtOnce(t *testing.T) {
	const clients, longest = 2000, 5 * time.Minute
	rng := rand.New(rand.NewPCG(7, 11))
	perSecond := make(map[int]int)
	for range clients {
		e := engine.New(engine.Config{
			User: "alice", Device: "phone", Servers: []string{"wss://a"}, Random: rng.Float64,
			BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
		}, engine.Snapshot{})
		var now time.Duration
		hellos := 0
		step := func(in engine.Input) engine.Output {
			if err := e.Step(engine.Time{Mono: now}, in); err != nil {
				t.Fatal(err)
			}
			return e.Take()
		}
		out := step(engine.Start{})
		for now < time.Hour {
			for _, d := range out.Dials {
				hellos++
				perSecond[int(now/time.Second)]++
				step(engine.Dialled{Attempt: d.Attempt})
				step(engine.Lost{Attempt: d.Attempt, Code: wire.CodeUnauthorized})
			}
			before := now
			now, _ = e.Deadline()
			if now-before > longest {
				t.Fatalf("waits for %v", now-before)
			}
			out = step(engine.Tick{})
		}
		if hellos > 80 {
			t.Fatalf("one client came %d times in an hour", hellos)
		}
	}
	for second, n := range perSecond {
		if limit := clients / 50; second > 300 && n > limit {
			t.Errorf("second %d: %d of %d clients", second, n, clients)
		}
	}
}
