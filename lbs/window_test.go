package lbs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// gatewaysOf returns n gateways with all transports and much memory.
func gatewaysOf(n, connections int, rate float64) []*station {
	list := make([]*station, n)
	for i := range list {
		list[i] = &station{memory: 1 << 40, Gateway: lbs.Gateway{
			Name: fmt.Sprint("g", i), Site: "a", Transports: lbs.AllTransports, Costs: lbs.DefaultCosts,
			MaxConnections: connections, AcceptRate: rate, Ready: true,
		}}
	}
	return list
}

// needed is the least time in which n clients may come back.
func needed(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / (lbs.Headroom * rate) * float64(time.Second))
}

// The window is long enough for all that wait, whether the Balancer has counted them or the caller has, and
// whether rates or capacities are what is missing.
func TestWindowsAreLongEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "gateways")
		rate := float64(rapid.IntRange(1, 300).Draw(t, "accept_rate"))
		w := newWorld(gatewaysOf(n, rapid.SampledFrom([]int{0, 3, 10000}).Draw(t, "max_connections"), rate), 1, 1, lbs.New)
		clients := rapid.IntRange(1, 3000).Draw(t, "clients")
		told := rapid.IntRange(0, 10000).Draw(t, "waiting")
		back := 0
		for range clients {
			a := w.ask(lbs.Request{Waiting: told}, 0)
			if len(a.Candidates) > 0 {
				continue
			}
			back++
			if least := min(needed(max(back, told), rate*float64(n)), lbs.MaxWindow); a.Window < least {
				t.Fatalf("%d clients wait, the caller says %d, gateways accept %v: window %v, at least %v", back, told, rate*float64(n), a.Window, least)
			}
		}
	})
}

func TestFullGatewaysAreNotAskedForOften(t *testing.T) {
	w := newWorld(gatewaysOf(2, 0, 100), 1, 1, lbs.New)
	if a := w.ask(lbs.Request{}, 0); len(a.Candidates) != 0 || a.Window != lbs.FullWindow {
		t.Errorf("without room: %+v", a)
	}
	empty := lbs.New(rand.New(rand.NewPCG(1, 1)))
	if a := empty.Ask(lbs.Request{}, 0); len(a.Candidates) != 0 || a.Window != lbs.FullWindow || a.Alone != 0 {
		t.Errorf("before the first view: %+v", a)
	}
}

// The clients of a gateway that has vanished count as waiting before the first of them asks.
func TestClientsOfAVanishedGatewayAreExpected(t *testing.T) {
	b := lbs.New(rand.New(rand.NewPCG(1, 1)))
	var both []lbs.Gateway
	for _, s := range gatewaysOf(2, 1_000_000, 100) {
		s.Memory, s.Connections = s.memory, 8000
		both = append(both, s.Gateway)
	}
	b.Update(lbs.View{LBS: 2, Gateways: both}, 0)
	if a := b.Ask(lbs.Request{}, 0); a.Alone != needed(16000, 200) {
		t.Errorf("without an LBS 16,000 clients are spread over %v", a.Alone)
	}
	b.Update(lbs.View{LBS: 2, Gateways: both[1:]}, time.Second)
	if b.Waiting() != 4000 { // the other LBS expects as many
		t.Errorf("%d clients are expected", b.Waiting())
	}
	var a lbs.Answer
	for a.Window == 0 {
		a = b.Ask(lbs.Request{}, time.Second)
	}
	if least := needed(3900, 50); a.Window < least {
		t.Errorf("the window is %v, at least %v", a.Window, least)
	}
	if a.Alone < needed(15000, 100) {
		t.Errorf("without an LBS 16,000 clients are spread over %v", a.Alone)
	}
	a = b.Ask(lbs.Request{}, 3*time.Hour)
	if len(a.Candidates) != 1 || b.Waiting() != 0 {
		t.Errorf("hours later %d clients are expected; %+v", b.Waiting(), a)
	}
}

// crowd is n clients that all ask within the first second, and then do as they are told. It returns when the
// last is assigned, and how often a client asked in the mean.
func crowd(w *world, n int) (last time.Duration, asked float64) {
	const step = 10 * time.Millisecond
	due := map[time.Duration]int{}
	for range n {
		due[w.now+time.Duration(w.rand.IntN(100))*step]++
	}
	begun, asks := w.now, 0
	for left := n; left > 0; {
		w.to(w.now + step)
		clients := due[w.now-step]
		delete(due, w.now-step)
		for range clients {
			asks++
			a := w.ask(lbs.Request{}, w.rand.IntN(len(w.balancers)))
			if len(a.Candidates) > 0 {
				left--
				continue
			}
			due[w.now+time.Duration(w.rand.Int64N(int64(a.Window/step)+1))*step]++
		}
	}
	return w.now - begun, float64(asks) / float64(n)
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
			if b.Ask(lbs.Request{}, w.now+2*lbs.MaxWindow); b.Waiting() != 0 {
				t.Errorf("hours later %d clients wait", b.Waiting())
			}
		}
	}
}

// BenchmarkAsk is what one question costs, by the number of gateways, while they take clients (assigned) and while a
// crowd waits (waiting).
func BenchmarkAsk(b *testing.B) {
	for _, gateways := range []int{5, 100, 1000} {
		for _, rate := range []float64{1e9, 1} {
			name := map[bool]string{true: "assigned", false: "waiting"}[rate > 1]
			b.Run(fmt.Sprintf("%s/gateways=%d", name, gateways), func(b *testing.B) {
				w := newWorld(gatewaysOf(gateways, 1<<40, rate), 1, 1, lbs.New)
				now := w.now
				b.ReportAllocs()
				for b.Loop() {
					now += 50 * time.Microsecond
					w.balancers[0].Ask(lbs.Request{Site: "a"}, now)
				}
			})
		}
	}
}
