package lbs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// Who drains sends away what the others take, and no more than they have places for.
func TestDeparture(t *testing.T) {
	of := func(name string, connections int, rate float64) lbs.Gateway {
		return lbs.Gateway{
			Name: name, Transports: lbs.Of(lbs.WebSocket), Costs: lbs.Costs{1000, 1000, 1000}, MaxConnections: 1000, Memory: 1 << 30,
			Connections: connections, AcceptRate: rate, Ready: true,
		}
	}
	drains := func(g lbs.Gateway) lbs.Gateway { g.Draining = true; return g }
	unready := func(g lbs.Gateway) lbs.Gateway { g.Ready = false; return g }
	poor := func(g lbs.Gateway) lbs.Gateway { g.Memory = 5999; return g }
	a := drains(of("a", 500, 10))
	for name, c := range map[string]struct {
		others []lbs.Gateway
		rate   float64
		window time.Duration
	}{
		"alone: its own rate counts once it is back": {nil, 0, 62500 * time.Millisecond},
		"two others":           {[]lbs.Gateway{of("b", 0, 100), of("c", 0, 50)}, 120, 4167 * time.Millisecond},
		"one is full":          {[]lbs.Gateway{of("b", 1000, 100), of("c", 0, 50)}, 40, 12500 * time.Millisecond},
		"one has seven places": {[]lbs.Gateway{of("b", 993, 100), of("c", 0, 50)}, 47, 10639 * time.Millisecond},
		"others take little: they come back, too": {[]lbs.Gateway{poor(of("b", 0, 100))}, 5, 62500 * time.Millisecond},
		"one can't serve":                         {[]lbs.Gateway{unready(of("b", 0, 100)), of("c", 0, 50)}, 40, 12500 * time.Millisecond},
		"one drains, too":                         {[]lbs.Gateway{drains(of("b", 1, 100)), of("c", 0, 50)}, 20, 25 * time.Second},
		"one has drained":                         {[]lbs.Gateway{drains(of("b", 0, 100)), of("c", 0, 50)}, 40, 12500 * time.Millisecond},
		"one is of an earlier version":            {[]lbs.Gateway{of("b", -1, 100)}, 80, 6250 * time.Millisecond},
		"none takes any: they come back":          {[]lbs.Gateway{of("b", 1000, 100)}, 0, 62500 * time.Millisecond},
	} {
		v := lbs.View{Gateways: append([]lbs.Gateway{a}, c.others...)}
		d := v.Depart("a", 500)
		if diff := d.Rate - c.rate; diff > 1e-9 || diff < -1e-9 || d.Window != c.window {
			t.Errorf("%s: %.5f a second, within %v; want %.5f, %v", name, d.Rate, d.Window, c.rate, c.window)
		}
	}
}

// No window is longer than an hour, and none is told while no rate is known.
func TestWindowOfADeparture(t *testing.T) {
	for rate, want := range map[float64]time.Duration{0.0001: lbs.MaxWindow, 0: 0} {
		v := lbs.View{Gateways: []lbs.Gateway{{Name: "a", AcceptRate: rate, Ready: true}}}
		if d := v.Depart("a", 500); d.Window != want || d.Rate != 0 {
			t.Errorf("at %v a second: %+v, want a window of %v", rate, d, want)
		}
	}
}

// Whatever gateways drain, all together send no more away in a second than Headroom of what each other one accepts, and the
// clients that are told of others come to each as its part of that is. Only gateways that take clients are named, each once.
func TestDeparturesSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var v lbs.View
		for i := range rapid.IntRange(1, 8).Draw(t, "gateways") {
			v.Gateways = append(v.Gateways, lbs.Gateway{
				Name: fmt.Sprint("g", i), Transports: lbs.AllTransports, Costs: lbs.DefaultCosts, MaxConnections: 5000,
				Connections: rapid.IntRange(-1, 5000).Draw(t, "connections"), Memory: rapid.Int64Range(0, 1<<28).Draw(t, "memory"),
				AcceptRate: rapid.Float64Range(0, 500).Draw(t, "rate"), Draining: rapid.Bool().Draw(t, "drains"), Ready: rapid.Bool().Draw(t, "ready"),
			})
		}
		takes := map[string]float64{} // at most, by who does not drain
		var sum, away float64
		for _, g := range v.Gateways {
			if !g.Draining && g.Ready {
				takes[g.Name] = lbs.Headroom * g.AcceptRate
				sum += takes[g.Name]
			}
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for _, g := range v.Gateways {
			if !g.Draining || g.Connections == 0 {
				continue
			}
			d := v.Depart(g.Name, max(g.Connections, 0))
			away += d.Rate
			const draws = 4000
			first := map[string]float64{}
			for range draws {
				seen := map[string]bool{}
				list := d.Draw(r.Float64)
				if (len(list) == 0) != (d.Rate == 0) || len(list) > lbs.MaxCandidates {
					t.Fatalf("%d gateways are named, and %f clients a second may go", len(list), d.Rate)
				}
				for i, o := range list {
					if o.Draining || !o.Ready || seen[o.Name] {
						t.Fatalf("%+v is named, or named twice", o)
					}
					seen[o.Name] = true
					if i == 0 {
						first[o.Name]++
					}
				}
			}
			// A tenth is twelve standard deviations.
			for name, n := range first {
				if comes := n / draws * d.Rate; comes > takes[name]+d.Rate/10 {
					t.Errorf("%f clients a second go to %s, which takes %f", comes, name, takes[name])
				}
			}
		}
		if away > sum+1e-6 {
			t.Errorf("%f leave in a second, and %f are taken", away, sum)
		}
	})
}
