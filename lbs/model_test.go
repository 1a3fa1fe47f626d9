package lbs_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// world is some gateways, some LBS beside each other, and the clients that they have assigned. Views come
// to all LBS once a second, and are half a second old by then.
type world struct {
	gateways  []*station
	balancers []*lbs.Balancer
	now       time.Duration
	old       []lbs.Gateway // what the gateways said half a second ago
	rand      *rand.Rand
}

// station is one gateway as it really is.
type station struct {
	lbs.Gateway
	assigned []time.Duration // when clients were assigned to it
	coming   []arrival       // clients that were assigned to it and have not connected yet
	memory   int64           // bytes that connections may take in all
	taken    int64
}

type arrival struct {
	at   time.Duration
	cost int64
}

func newWorld(gateways []*station, balancers int, seed uint64, make func(*rand.Rand) *lbs.Balancer) *world {
	w := &world{gateways: gateways, rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range balancers {
		w.balancers = append(w.balancers, make(rand.New(rand.NewPCG(seed, uint64(i)+2))))
	}
	w.say()
	w.tell()
	return w
}

// say has the gateways say what they are.
func (w *world) say() {
	w.old = nil
	for _, s := range w.gateways {
		s.Memory = s.memory - s.taken
		w.old = append(w.old, s.Gateway)
	}
}

// tell brings what the gateways said to all LBS.
func (w *world) tell() {
	for _, b := range w.balancers {
		b.Update(lbs.View{LBS: len(w.balancers), Gateways: slices.Clone(w.old)}, w.now)
	}
}

// to goes on to a time. Clients connect meanwhile, and gateways say so.
func (w *world) to(at time.Duration) {
	for w.now < at {
		const step = 500 * time.Millisecond
		next := min(at, w.now.Truncate(step)+step)
		w.now = next
		for _, s := range w.gateways {
			s.coming = slices.DeleteFunc(s.coming, func(a arrival) bool {
				if a.at > next {
					return false
				}
				s.Connections++
				s.taken += a.cost
				return true
			})
		}
		switch {
		case next%time.Second == 0:
			w.say()
		case next%step == 0:
			w.tell()
		}
	}
}

// ask has one client ask one of the LBS, and dial as it is told.
func (w *world) ask(r lbs.Request, i int) lbs.Answer {
	a := w.balancers[i].Ask(r, w.now)
	if len(a.Candidates) > 0 {
		s := w.station(a.Candidates[0].Gateway.Name)
		var cost int64
		for _, t := range []lbs.Transport{lbs.WebSocket, lbs.TCP, lbs.QUIC} {
			if a.Candidates[0].Transports.Has(t) {
				cost = max(cost, s.Costs[t])
			}
		}
		s.assigned = append(s.assigned, w.now)
		s.coming = append(s.coming, arrival{w.now + time.Duration(w.rand.Int64N(int64(10*time.Second))), cost})
	}
	return a
}

func (w *world) station(name string) *station {
	return w.gateways[slices.IndexFunc(w.gateways, func(s *station) bool { return s.Name == name })]
}

// check returns which limit of a gateway was passed.
func (w *world) check() error {
	for _, s := range w.gateways {
		slices.Sort(s.assigned)
		for i, at := range s.assigned {
			end, _ := slices.BinarySearchFunc(s.assigned, at+time.Second, cmp.Compare[time.Duration])
			if n := end - i; float64(n) > s.AcceptRate {
				return fmt.Errorf("%s was assigned %d clients in the second from %v on, and accepts %.2f", s.Name, n, at, s.AcceptRate)
			}
		}
		if s.Connections > s.MaxConnections {
			return fmt.Errorf("%s has %d connections, and room for %d", s.Name, s.Connections, s.MaxConnections)
		}
		if s.taken > s.memory {
			return fmt.Errorf("the connections of %s take %d bytes, and may take %d", s.Name, s.taken, s.memory)
		}
	}
	return nil
}

// drawStations draws gateways of up to four sites.
func drawStations(t *rapid.T, balancers int) []*station {
	n := rapid.IntRange(1, 8).Draw(t, "gateways")
	list := make([]*station, n)
	for i := range list {
		most := rapid.IntRange(0, 400).Draw(t, "max_connections")
		s := &station{memory: rapid.Int64Range(0, 4<<20).Draw(t, "memory")}
		s.Gateway = lbs.Gateway{
			Name: fmt.Sprint("g", i), Site: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "site"),
			Transports: lbs.Transports(rapid.IntRange(1, int(lbs.AllTransports)).Draw(t, "transports")), Costs: lbs.DefaultCosts,
			MaxConnections: most, AcceptRate: rapid.Float64Range(float64(balancers), 60).Draw(t, "accept_rate"),
			Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0, Ready: rapid.IntRange(0, 5).Draw(t, "ready") != 0,
		}
		list[i] = s
	}
	return list
}

func drawRequest(t *rapid.T) lbs.Request {
	return lbs.Request{
		Site:       rapid.SampledFrom([]string{"", "a", "b", "c", "d", "nowhere"}).Draw(t, "client_site"),
		Transports: lbs.Transports(rapid.IntRange(0, int(lbs.AllTransports)).Draw(t, "client_transports")),
	}
}

// storm has clients ask at random times, many within one moment, and checks each answer by itself.
func storm(t *rapid.T, make func(*rand.Rand) *lbs.Balancer) *world {
	balancers := rapid.IntRange(1, 4).Draw(t, "lbs")
	w := newWorld(drawStations(t, balancers), balancers, rapid.Uint64().Draw(t, "seed"), make)
	for range rapid.IntRange(1, 12).Draw(t, "bursts") {
		w.to(w.now + time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause_ms"))*time.Millisecond)
		r := drawRequest(t)
		for range rapid.IntRange(1, 80).Draw(t, "clients") {
			a := w.ask(r, w.rand.IntN(balancers))
			w.checkAnswer(t, r, a)
		}
	}
	w.to(w.now + 15*time.Second) // all have connected
	return w
}

// checkAnswer checks what must hold of every answer.
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
	if len(a.Candidates) == 0 && a.Window < lbs.MinWindow {
		t.Fatalf("a client is to ask again within %v", a.Window)
	}
	if len(a.Candidates) > 0 && (a.Window != 0 || a.Expires <= w.now) {
		t.Fatalf("an assigned client has the window %v, and its assignment ends at %v, now is %v", a.Window, a.Expires, w.now)
	}
}

func TestNoGatewayIsAssignedMoreThanItTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := storm(t, lbs.New).check(); err != nil {
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
			for _, forgets := range []bool{false, true} {
				one := *s
				one.Name, one.Transports, one.Ready, one.Costs = "g", lbs.AllTransports, true, lbs.DefaultCosts
				make := lbs.New
				if forgets {
					make = lbs.NewForgetful
				}
				w := newWorld([]*station{&one}, 1, 1, make)
				for range 90 {
					w.to(w.now + 12*time.Millisecond)
					w.ask(lbs.Request{}, 0)
				}
				w.to(w.now + 15*time.Second)
				if err := w.check(); (err != nil) != forgets {
					t.Errorf("forgets: %v; check says: %v", forgets, err)
				}
			}
		})
	}
}

// A client is assigned to a gateway of its own site unless none there can take it.
func TestOwnSiteIsPreferred(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := storm(t, lbs.New)
		r := drawRequest(t)
		w.to(w.now + 15*time.Second) // all assignments are connections, and each rate is whole again
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
