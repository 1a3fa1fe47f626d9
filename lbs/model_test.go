package lbs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// drawStations draws gateways of up to four sites.
func drawStations(t *rapid.T, balancers int) []*station {
	list := make([]*station, rapid.IntRange(1, 8).Draw(t, "gateways"))
	for i := range list {
		list[i] = &station{memory: rapid.Int64Range(0, 4<<20).Draw(t, "memory"), Gateway: lbs.Gateway{
			Name: fmt.Sprint("g", i), Site: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "site"),
			Transports: lbs.Transports(rapid.IntRange(1, int(lbs.AllTransports)).Draw(t, "transports")), Costs: lbs.DefaultCosts,
			MaxConnections: rapid.IntRange(0, 400).Draw(t, "max_connections"), AcceptRate: rapid.Float64Range(float64(balancers), 60).Draw(t, "accept_rate"),
			Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0, Ready: rapid.IntRange(0, 5).Draw(t, "ready") != 0,
		}}
	}
	return list
}

// drawClient draws where a client is, and what it can use.
func drawClient(t *rapid.T) lbs.Request {
	return lbs.Request{
		Site:       rapid.SampledFrom([]string{"", "a", "b", "c", "d", "nowhere"}).Draw(t, "client_site"),
		Transports: lbs.Transports(rapid.IntRange(0, int(lbs.AllTransports)).Draw(t, "client_transports")),
	}
}

// storm has clients ask at random times, many within one moment, and checks each answer by itself.
func storm(t *rapid.T) *world {
	balancers := rapid.IntRange(1, 4).Draw(t, "lbs")
	w := newWorld(drawStations(t, balancers), balancers, rapid.Uint64().Draw(t, "seed"), lbs.New)
	w.age = time.Duration(rapid.IntRange(1, 9).Draw(t, "age")) * step
	for range rapid.IntRange(1, 12).Draw(t, "bursts") {
		w.to(w.now + time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause_ms"))*time.Millisecond)
		client := drawClient(t)
		for range rapid.IntRange(1, 80).Draw(t, "clients") {
			r := w.newcomer()
			r.Site, r.Transports = client.Site, client.Transports
			w.checkAnswer(t, r, w.ask(r, w.rand.IntN(balancers)))
		}
	}
	w.settle()
	return w
}

// checkAnswer checks what must hold of every answer to a user.
func (w *world) checkAnswer(t *rapid.T, r lbs.Request, a lbs.Answer) {
	if len(a.Candidates) > lbs.MaxCandidates {
		t.Fatalf("%d candidates", len(a.Candidates))
	}
	if a.Alone < lbs.MinWindow || a.Alone > lbs.MaxWindow {
		t.Fatalf("clients without an LBS are spread over %v", a.Alone)
	}
	named := map[string]bool{}
	for _, c := range a.Candidates {
		g := c.Gateway
		if named[g.Name] || g.Draining || !g.Ready || c.Weight < 1 || c.Transports == 0 || c.Transports&^g.Transports != 0 ||
			r.Transports != 0 && c.Transports&^r.Transports != 0 {
			t.Fatalf("candidate %+v of %+v, for %+v", c, a.Candidates, r)
		}
		named[g.Name] = true
	}
	switch a.Outcome {
	case lbs.Assigned:
		if len(a.Candidates) == 0 || a.Window != 0 || a.Expires != w.now+lbs.LeaseTime {
			t.Fatalf("at %v a client is assigned: %+v", w.now, a)
		}
	case lbs.Crowded:
		if len(a.Candidates) != 0 || a.Window < lbs.MinWindow || a.Window > lbs.MaxWindow || a.Expires != 0 {
			t.Fatalf("a client is to ask again: %+v", a)
		}
	default:
		t.Fatalf("a client that asks once: %+v", a)
	}
}

func TestNoGatewayIsAssignedMoreThanItTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := storm(t).check(); err != nil {
			t.Fatal(err)
		}
	})
}

// A Balancer that forgets its assignments passes a gateway's limits, and check sees it.
func TestForgettingIsCaught(t *testing.T) {
	for limit, s := range map[string]*station{
		"accept rate": {memory: 1 << 30, Gateway: lbs.Gateway{MaxConnections: 1000, AcceptRate: 20}},
		"connections": {memory: 1 << 30, Gateway: lbs.Gateway{MaxConnections: 50, AcceptRate: 100}},
		"memory":      {memory: 50 * lbs.DefaultCosts[lbs.QUIC], Gateway: lbs.Gateway{MaxConnections: 1000, AcceptRate: 100}},
	} {
		t.Run(limit, func(t *testing.T) {
			for name, newBalancer := range map[string]maker{"sound": lbs.New, "forgetful": lbs.NewForgetful} {
				one := *s
				one.Name, one.Transports, one.Ready, one.Costs = "g", lbs.AllTransports, true, lbs.DefaultCosts
				w := newWorld([]*station{&one}, 1, 1, newBalancer)
				for range 90 {
					w.to(w.now + 12*time.Millisecond)
					w.ask(w.newcomer(), 0)
				}
				w.settle()
				if err := w.check(); (err != nil) != (name == "forgetful") {
					t.Errorf("%s: check says: %v", name, err)
				}
			}
		})
	}
}

// A client is assigned to a gateway of its own site unless none there can take it.
func TestOwnSiteIsPreferred(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := storm(t)
		w.settle() // rates are whole again, and assignments are connections
		client := drawClient(t)
		r := w.newcomer()
		r.Site, r.Transports = client.Site, client.Transports
		a := w.ask(r, 0)
		var local, room int
		for _, s := range w.gateways {
			shared := s.Transports
			if r.Transports != 0 {
				shared &= r.Transports
			}
			parts := len(w.balancers)
			if shared == 0 || s.Draining || !s.Ready || s.MaxConnections-s.Connections < parts || s.memory-s.taken < int64(parts)*lbs.DefaultCosts[lbs.QUIC] {
				continue
			}
			room++
			if s.Site == r.Site {
				local++
			}
		}
		if room > 0 && len(a.Candidates) == 0 {
			t.Fatalf("%d gateways have room, and the client is to come back", room)
		}
		if len(a.Candidates) < min(room, lbs.MinCandidates) {
			t.Fatalf("%d gateways have room, and %d are named", room, len(a.Candidates))
		}
		if local > 0 && a.Candidates[0].Gateway.Site != r.Site {
			t.Fatalf("a client of site %s is sent to site %s", r.Site, a.Candidates[0].Gateway.Site)
		}
	})
}

// When the client's site has no room, the others have as many of its clients as they have room: memory counts, not
// heads.
func TestOtherSitesAreChosenByRoom(t *testing.T) {
	w := newWorld(gatewaysOf(3, 1<<30, 1<<30), 1, 1, lbs.New)
	w.gateways[0].Site, w.gateways[0].MaxConnections = "dead", 0
	w.gateways[1].memory, w.gateways[2].memory = 1<<40, 3<<40
	w.to(2 * time.Second)
	const clients = 10_000
	chosen := map[string]int{}
	for range clients {
		r := w.newcomer()
		r.Site = "dead"
		chosen[w.ask(r, 0).Candidates[0].Gateway.Name]++
	}
	if n := chosen["g2"]; chosen["g0"] != 0 || n < clients*7/10 || n > clients*8/10 {
		t.Errorf("g2 has three quarters of the memory, and was chosen so often: %v", chosen)
	}
}

// A node that does not say its connections is not taken for an empty one.
func TestAnUnknownNumberOfConnectionsIsHalf(t *testing.T) {
	w := newWorld(gatewaysOf(1, 100, 1000), 1, 1, lbs.New)
	w.gateways[0].Connections = -1
	w.balancers[0].Update(lbs.View{Gateways: []lbs.Gateway{w.gateways[0].Gateway}}, 0)
	assigned := 0
	for range 100 {
		if a := w.balancers[0].Ask(w.newcomer(), 0); a.Outcome == lbs.Assigned {
			assigned++
		}
	}
	if assigned != 50 {
		t.Errorf("%d clients were assigned to a gateway of 100 places", assigned)
	}
}

// Whoever owns a part of a gateway gives out that part only, and the only LBS that names a gateway gives out all of it.
func TestPartsOfAGateway(t *testing.T) {
	for shares, want := range map[int]int{0: 100, 1: 100, 4: 25} {
		w := newWorld(gatewaysOf(1, 100, 1e6), 1, 1, lbs.New)
		w.gateways[0].Shares = shares
		w.to(3 * time.Second)
		assigned := 0
		for range 200 {
			if a := w.ask(w.newcomer(), 0); a.Outcome == lbs.Assigned {
				assigned++
			}
		}
		if assigned != want {
			t.Errorf("one of %d LBS gave out %d of 100 places", shares, assigned)
		}
	}
}
