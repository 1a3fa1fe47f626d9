package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// newAsker is newRacer for a client that knows LBS. Its gateways are reached by TLS at other ports.
func newAsker(t *testing.T, lbs ...string) *racer {
	w := newWorld(t, func() float64 { return 0.5 })
	p := w.device("alice", "phone")
	p.engine = engine.New(engine.Config{
		User: "alice", Device: "phone", Servers: lbs, LBS: lbs, Random: w.random,
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
	}, p.store.snapshot())
	r := &racer{script: &script{phone: p, t: t}}
	r.does(engine.Start{})
	return r
}

func (r *racer) asks(want ...string) {
	r.t.Helper()
	var got []string
	for _, q := range r.asked {
		got = append(got, q.LBS+q.Ticket)
	}
	r.asked = nil
	if !slices.Equal(got, want) {
		r.t.Fatalf("asks %q, want %q", got, want)
	}
}

// isTold answers a question with a place on these gateways, for 10 s.
func (r *racer) isTold(attempt uint64, gateways ...string) {
	r.t.Helper()
	a := engine.Answer{Keep: 10 * time.Second, Alone: time.Minute}
	for _, g := range gateways {
		a.Candidates = append(a.Candidates, engine.Candidate{Server: g, Weight: 1})
	}
	r.does(engine.Answered{Attempt: attempt, Answer: a})
}

func (r *racer) isAway(attempt uint64) {
	r.t.Helper()
	r.does(engine.Unanswered{Attempt: attempt, Err: errors.New("no route to the host")})
}

func (r *racer) fails(attempt uint64) {
	r.t.Helper()
	r.does(engine.Lost{Attempt: attempt, Err: errors.New("refused")})
}

// waitsJust lets time pass up to the next question or dial, and checks for how long.
func (r *racer) waitsJust(want time.Duration) {
	r.t.Helper()
	r.waits(want - 1)
	if len(r.asked)+len(r.dialled) > 0 {
		r.t.Fatalf("asks %v, dials %v before %v have passed", r.asked, r.dialled, want)
	}
	r.waits(1)
	if len(r.asked)+len(r.dialled) == 0 {
		r.t.Fatalf("neither asks nor dials after %v", want)
	}
}

// A story: the client asks first, is told to wait, shows its ticket, is given a place whose first
// gateway is down, connects to another, loses that, and asks again.
func TestFindsItsGateway(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.asks("https://lbs")
	r.dials()
	r.does(engine.Answered{Attempt: 1, Answer: engine.Answer{Window: 30 * time.Second, Ticket: " ticket", Alone: time.Minute}})
	r.waitsFor(15 * time.Second)
	r.does(engine.NetworkChanged{Name: "wifi"}) // nothing that the app does makes it ask earlier
	r.does(engine.Reconnect{})
	r.does(engine.Online{On: false})
	r.does(engine.Online{On: true})
	r.waitsJust(15 * time.Second)
	r.asks("https://lbs ticket")
	r.isTold(2, "tls://a:1", "tls://b:1")
	r.dials("tls://a:1")
	r.fails(3)
	r.dials("tls://b:1")
	r.connects(4, &wirepb.Welcome{ReconnectWindowMs: 2000})
	r.waits(2 * time.Second)
	r.fails(4)
	r.waitsJust(time.Second)
	r.asks("https://lbs") // without the ticket: that was for the place
	r.dials()
	r.isTold(5, "tls://b:1")
	r.dials("tls://b:1")
}

// A place that has expired is no place: the client asks again, however many gateways it names.
func TestPlaceExpires(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.isTold(1, "tls://a:1", "tls://b:1", "tls://c:1", "tls://d:1", "tls://e:1")
	r.does(engine.Dialled{Attempt: 2})
	r.asks("https://lbs")
	r.dials("tls://a:1")
	r.waits(9 * time.Second)
	r.fails(2) // its Hello was not answered
	r.waitsJust(250 * time.Millisecond)
	r.asks() // the place is good for a moment more
	if len(r.dialled) != 1 || r.dialled[0].Server == "tls://a:1" {
		t.Fatalf("dials %v, want another gateway of the place", r.dialled)
	}
	r.dialled = nil
	r.waits(2 * time.Second)
	r.fails(3)
	r.dials() // no third: the place has expired
	r.waitsJust(500 * time.Millisecond)
	r.asks("https://lbs")
}

// All gateways of a place have failed: the client asks again, with the usual backoff.
func TestPlaceInVain(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.asks("https://lbs")
	r.isTold(1, "tls://a:1")
	r.dials("tls://a:1")
	r.fails(2)
	r.waitsJust(250 * time.Millisecond)
	r.asks("https://lbs")
}

// LBS that are away, or that answer nothing, are passed over.
func TestAnotherLBS(t *testing.T) {
	r := newAsker(t, "https://one", "https://two", "https://three")
	first := r.asked[0].LBS
	r.isAway(1)
	r.waits(2500 * time.Millisecond) // the second swallows the question
	if len(r.asked) != 3 {
		t.Fatalf("asks %v", r.asked)
	}
	r.isTold(3, "tls://a:1")
	r.hangsUp(2)
	r.dials("tls://a:1")
	third := r.asked[2].LBS
	if third == first {
		t.Fatalf("asks %v", r.asked)
	}
	r.connects(4, &wirepb.Welcome{})
	r.waits(2 * time.Second)
	r.asked = nil
	r.fails(4)
	r.waits(time.Second)
	r.asks(third) // it answers
}

// Where no LBS answers, the client goes on asking, and dials a gateway that it remembers, at a random
// moment within the time that it was told.
func TestAlone(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.isTold(1, "tls://a:1", "tls://b:1")
	r.connects(2, &wirepb.Welcome{})
	r.waits(2 * time.Second)
	r.fails(2)
	r.dialled, r.asked = nil, nil
	r.waits(500 * time.Millisecond)
	begun := r.w.now
	for r.w.now < begun+30*time.Second {
		for asked := r.asked; len(asked) > 0; asked = r.asked {
			r.asked = nil
			r.isAway(asked[0].Attempt)
			if r.w.now < begun+20*time.Second && r.engine.State() == engine.Waiting {
				r.does(engine.NetworkChanged{}) // that draws no other moment
				r.hungUp = nil
				r.w.now += 100 * time.Millisecond
			}
		}
		r.dials()
		r.waits(100 * time.Millisecond)
	}
	r.asked = nil
	if len(r.dialled) != 1 || r.dialled[0].Server != "tls://a:1" && r.dialled[0].Server != "tls://b:1" {
		t.Fatalf("dials %v half a minute later", r.dialled)
	}
	n := r.dialled[0].Attempt
	r.connects(n, &wirepb.Welcome{})
	r.waits(2 * time.Second)
	r.dialled = nil
	r.fails(n)
	r.waits(time.Second)
	r.asks("https://lbs") // it is asked first again
	r.dials()
}

// A client that was never told anything, and finds no LBS, connects as one that knows none.
func TestNoLBSAtAll(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.asks("https://lbs")
	r.isAway(1)
	r.dials("https://lbs")
	r.fails(2)
	r.waitsJust(250 * time.Millisecond)
	r.asks("https://lbs")
}

// A node that answers no questions is dialled at once, and not asked again soon.
func TestPlainNode(t *testing.T) {
	r := newAsker(t, "https://plain")
	r.asks("https://plain")
	r.does(engine.Unanswered{Attempt: 1, Err: errors.New("404"), NoLBS: true})
	r.dials("https://plain")
	r.connects(2, &wirepb.Welcome{})
	r.waits(2 * time.Second)
	r.fails(2)
	r.waits(time.Second)
	r.asks()
	r.dials("https://plain")
	r.does(engine.Online{On: false})
	r.waits(time.Hour)
	r.does(engine.Online{On: true})
	r.asks("https://plain")
}

// An LBS that is overloaded is left alone for as long as it says, and another is asked meanwhile, with
// the usual backoff. No gateway is dialled without a place.
func TestLBSIsBusy(t *testing.T) {
	r := newAsker(t, "https://one", "https://two")
	first := r.asked[0].LBS
	r.asked = nil
	busy := &pim.Error{Kind: pim.KindOverloaded, RetryAfter: 8 * time.Second}
	r.does(engine.Unanswered{Attempt: 1, Err: busy})
	r.waitsJust(250 * time.Millisecond)
	if len(r.asked) != 1 || r.asked[0].LBS == first {
		t.Fatalf("asks %v", r.asked)
	}
	r.asked = nil
	r.does(engine.Unanswered{Attempt: 2, Err: busy})
	r.does(engine.Reconnect{})
	r.waitsJust(8*time.Second + 750*time.Millisecond)
	r.asks(first)
	r.dials()
}

// A refused token is no reason to ask another LBS; the ticket goes, too.
func TestLBSRefusesToken(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.asks("https://lbs")
	r.does(engine.Answered{Attempt: 1, Answer: engine.Answer{Window: 2 * time.Second, Ticket: " ticket"}})
	r.waitsJust(time.Second)
	r.asks("https://lbs ticket")
	r.does(engine.Unanswered{Attempt: 2, Err: &pim.Error{Kind: pim.KindUnauthorized, RetryAfter: time.Minute}})
	r.waitsJust(500 * time.Millisecond)
	r.asks("https://lbs")
	r.does(engine.Unanswered{Attempt: 3, Err: &pim.Error{Kind: pim.KindUnavailable, RetryAfter: 4 * time.Second}, NoToken: true})
	r.waitsJust(4500 * time.Millisecond)
	r.asks("https://lbs")
	r.dials()
}

// A gateway of the place that turns the client away is left alone; the next one is dialled.
func TestPlaceTurnsAway(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.isTold(1, "tls://a:1", "tls://b:1")
	r.asks("https://lbs")
	r.dials("tls://a:1")
	r.turnsAway(2, 20*time.Second, 40*time.Second)
	r.waitsJust(250 * time.Millisecond)
	r.dials("tls://b:1")
	r.turnsAway(3, 0, 20*time.Second)
	r.waitsJust(500 * time.Millisecond)
	r.asks("https://lbs")
	r.isTold(4, "tls://a:1", "tls://b:1")
	r.dials() // both are busy
	r.waitsJust(time.Second)
	r.asks("https://lbs")
}

// The app may interrupt a question at any time.
func TestQuestionInterrupted(t *testing.T) {
	r := newAsker(t, "https://lbs")
	if r.engine.State() != engine.Connecting {
		t.Fatalf("state %s", r.engine.State())
	}
	r.does(engine.Online{On: false})
	r.hangsUp(1)
	r.isTold(1, "tls://a:1") // too late
	r.dials()
	r.does(engine.Online{On: true})
	r.asks("https://lbs", "https://lbs")
	r.isTold(2, "tls://a:1")
	r.dials("tls://a:1")
}

// A place leads to no gateway that the client may not dial.
func TestPlaceWithoutEncryption(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.isTold(1, "tcp://evil:1", "tls://a:1")
	r.dials("tls://a:1")
	r = newAsker(t, "https://lbs")
	r.isTold(1, "tcp://evil:1")
	r.dials("https://lbs") // as if it answered no questions
}

// The others are drawn by their weights.
func TestOthersByWeight(t *testing.T) {
	times := make(map[string]int)
	for i := range 1000 {
		r := newAsker(t, "https://lbs")
		r.w.random = nil
		draws := float64(i) / 1000
		p := r.phone
		p.engine = engine.New(engine.Config{
			Device: "phone", Servers: []string{"https://lbs"}, LBS: []string{"https://lbs"},
			Random: func() float64 { return draws }, BackoffMin: time.Second, BackoffMax: time.Second, RequestTimeout: time.Second,
		}, p.store.snapshot())
		r.does(engine.Start{})
		r.does(engine.Answered{Attempt: 1, Answer: engine.Answer{Candidates: []engine.Candidate{
			{Server: "tls://first:1", Weight: 1}, {Server: "tls://heavy:1", Weight: 9}, {Server: "tls://light:1", Weight: 1},
		}}})
		r.fails(2)
		times[r.dialled[len(r.dialled)-1].Server]++
	}
	if got := fmt.Sprint(times); got != "map[tls://heavy:1:900 tls://light:1:100]" {
		t.Errorf("after the first: %s", got)
	}
}

// A gateway that refuses the lease says when to come back; then the client asks.
func TestLeaseRefused(t *testing.T) {
	r := newAsker(t, "https://lbs")
	r.isTold(1, "tls://a:1")
	r.does(engine.Dialled{Attempt: 2})
	r.does(engine.Frame{Attempt: 2, Message: &wirepb.PIMError{Kind: wirepb.ErrorKind(pim.KindForbidden), RetryAfterMs: 1000}})
	r.asked = nil
	r.does(engine.Frame{Attempt: 2, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeUnavailable), Reconnect: true, WindowMs: 2000}})
	r.waits(2 * time.Second)
	r.asks("https://lbs")
}
