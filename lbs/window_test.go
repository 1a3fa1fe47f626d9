package lbs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// needed is the least time in which n clients may come back.
func needed(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / (lbs.Headroom * rate) * float64(time.Second))
}

// crush has clients ask within one moment, and returns what is wrong with a window: it must be long enough for all
// that wait.
func crush(w *world, clients int, rate float64) error {
	back := 0
	for range clients {
		a := w.ask(w.newcomer(), 0)
		if a.Outcome == lbs.Assigned {
			continue
		}
		back++
		if least := min(needed(back, rate), lbs.MaxWindow); a.Window < least {
			return fmt.Errorf("%d clients wait, and gateways accept %v: window %v, at least %v", back, rate, a.Window, least)
		}
	}
	return nil
}

// Windows are long enough, whether rates or capacities are what is missing.
func TestWindowsAreLongEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "gateways")
		rate := float64(rapid.IntRange(1, 300).Draw(t, "accept_rate"))
		w := newWorld(gatewaysOf(n, rapid.SampledFrom([]int{0, 3, 10000}).Draw(t, "max_connections"), rate), 1, 1, lbs.New)
		if err := crush(w, rapid.IntRange(1, 3000).Draw(t, "clients"), rate*float64(n)); err != nil {
			t.Fatal(err)
		}
	})
}

// A Balancer without windows is seen.
func TestHasteIsCaught(t *testing.T) {
	w := newWorld(gatewaysOf(1, 1000, 10), 1, 1, lbs.NewHasty)
	if crush(w, 1000, 10) == nil {
		t.Error("a Balancer that has all come back within a second passes")
	}
}

func TestFullGatewaysAreNotAskedForOften(t *testing.T) {
	w := newWorld(gatewaysOf(2, 0, 100), 1, 1, lbs.New)
	if a := w.ask(w.newcomer(), 0); a.Outcome != lbs.Crowded || a.Window != lbs.FullWindow {
		t.Errorf("without room: %+v", a)
	}
	empty := lbs.New(rand.New(rand.NewPCG(1, 1)))
	if a := empty.Ask(w.newcomer(), 0); a.Outcome != lbs.Crowded || a.Window != lbs.FullWindow || a.Alone != 0 {
		t.Errorf("before the first view: %+v", a)
	}
}

// two returns two gateways with 8,000 connections each, which accept 100 a second and have two LBS.
func two() []lbs.Gateway {
	var both []lbs.Gateway
	for _, s := range gatewaysOf(2, 1_000_000, 100) {
		s.Memory, s.Connections, s.Shares = s.memory, 8000, 2
		both = append(both, s.Gateway)
	}
	return both
}

// The clients of a gateway that has vanished count as waiting before the first of them asks.
func TestClientsOfAVanishedGatewayAreExpected(t *testing.T) {
	b := lbs.New(rand.New(rand.NewPCG(1, 1)))
	b.Update(lbs.View{Gateways: two()}, 0)
	w := &world{}
	if a := b.Ask(w.newcomer(), 0); a.Alone != needed(16000, 200) {
		t.Errorf("without an LBS 16,000 clients are spread over %v", a.Alone)
	}
	b.Update(lbs.View{Gateways: two()[1:]}, time.Second)
	if b.Waiting() != 4000 { // the other LBS expects as many
		t.Errorf("%d clients are expected", b.Waiting())
	}
	var a lbs.Answer
	for a.Window == 0 {
		a = b.Ask(w.newcomer(), time.Second)
	}
	if least := needed(3900, 50); a.Window < least {
		t.Errorf("the window is %v, at least %v", a.Window, least)
	}
	if a.Alone < needed(15000, 100) {
		t.Errorf("without an LBS 16,000 clients are spread over %v", a.Alone)
	}
	a = b.Ask(w.newcomer(), 3*time.Hour)
	if len(a.Candidates) != 1 || b.Waiting() != 0 {
		t.Errorf("hours later %d clients are expected; %+v", b.Waiting(), a)
	}
}

// A gateway that is away from the view now and then has not lost its clients each time.
func TestAFlickeringGatewayIsExpectedOnce(t *testing.T) {
	b := lbs.New(rand.New(rand.NewPCG(1, 1)))
	for i := range 10 {
		b.Update(lbs.View{Gateways: two()}, time.Duration(2*i)*time.Second)
		if b.Waiting() != 0 {
			t.Fatalf("the gateway is back, and %d of its clients are expected", b.Waiting())
		}
		b.Update(lbs.View{Gateways: two()[1:]}, time.Duration(2*i+1)*time.Second)
		if b.Waiting() != 4000 {
			t.Fatalf("the gateway is away for the %d. time, and %d of its clients are expected", i+1, b.Waiting())
		}
	}
	b.Update(lbs.View{Gateways: two()[1:]}, 19*time.Second+lbs.ExpectFor)
	if b.Waiting() != 0 {
		t.Errorf("a minute later %d are expected", b.Waiting())
	}
}

// A gateway that drains has sent its clients away before it vanishes.
func TestClientsOfADrainedGatewayAreNotExpected(t *testing.T) {
	b := lbs.New(rand.New(rand.NewPCG(1, 1)))
	both := two()
	both[0].Draining = true
	b.Update(lbs.View{Gateways: both}, 0)
	b.Update(lbs.View{Gateways: two()[1:]}, time.Second)
	if b.Waiting() != 0 {
		t.Errorf("%d clients are expected", b.Waiting())
	}
}

// crowd is n clients that all ask within the first second, and then do as they are told. It returns when the
// last is assigned, and how often a client asked in the mean.
func crowd(w *world, n int) (last time.Duration, asked float64) {
	const moment = 10 * time.Millisecond
	due := map[time.Duration][]lbs.Request{}
	for range n {
		at := time.Duration(w.rand.IntN(100)) * moment
		due[at] = append(due[at], w.newcomer())
	}
	asks := 0
	for left := n; left > 0; {
		now := w.now
		w.to(now + moment)
		for _, r := range due[now] {
			asks++
			a := w.ask(r, w.rand.IntN(len(w.balancers)))
			if a.Outcome == lbs.Assigned {
				left--
				continue
			}
			at := w.now + time.Duration(w.rand.Int64N(int64(a.Window/moment)+1))*moment
			due[at] = append(due[at], r)
		}
		delete(due, now)
	}
	return w.now, float64(asks) / float64(n)
}

// A crowd is back in little more than the time that the accept rates allow, though the LBS knew nothing of it
// before and don't know each other.
func TestACrowdIsBackSoon(t *testing.T) {
	for _, balancers := range []int{1, 4} {
		const clients, gateways, rate = 8_000, 4, 100
		w := newWorld(gatewaysOf(gateways, 1_000_000, rate), balancers, 1, lbs.New)
		last, asked := crowd(w, clients)
		if err := w.check(); err != nil {
			t.Error(err)
		}
		t.Logf("%d LBS: %d clients are back after %v, of %v at the least; a client asked %.1f times", balancers, clients, last, needed(clients, gateways*rate), asked)
		if last > 3*needed(clients, gateways*rate) || asked > 8 {
			t.Errorf("%d LBS: %d clients are back after %v, and asked %.1f times", balancers, clients, last, asked)
		}
		for _, b := range w.balancers {
			if b.Ask(w.newcomer(), w.now+2*lbs.MaxWindow); b.Waiting() != 0 {
				t.Errorf("hours later %d clients wait", b.Waiting())
			}
		}
	}
}

// BenchmarkAsk is what one question costs, by the number of gateways, while they take clients (assigned) and while a
// crowd waits (waiting).
func BenchmarkAsk(b *testing.B) {
	for _, gateways := range []int{5, 100, 1000} {
		for name, rate := range map[string]float64{"assigned": 1e9, "waiting": 1} {
			b.Run(fmt.Sprintf("%s/gateways=%d", name, gateways), func(b *testing.B) {
				w := newWorld(gatewaysOf(gateways, 1<<40, rate), 1, 1, lbs.New)
				requests := make([]lbs.Request, 10_000)
				for i := range requests {
					requests[i] = w.newcomer()
					requests[i].Site = "a"
				}
				now, i := w.now, 0
				b.ReportAllocs()
				for b.Loop() {
					now += 250 * time.Microsecond
					w.balancers[0].Ask(requests[i%len(requests)], now)
					i++
				}
			})
		}
	}
}
