package lbs_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
)

// step is how often something happens by itself in a world.
const step = 500 * time.Millisecond

// world is some gateways, some LBS beside each other, and the clients that they have assigned. Once a second the
// gateways say what they are, and the LBS hear it age later.
type world struct {
	gateways  []*station
	balancers []*lbs.Balancer
	now       time.Duration
	age       time.Duration   // a multiple of step
	said      [][]lbs.Gateway // what the LBS have not heard yet, one for each second
	rand      *rand.Rand
	clients   int
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

type maker func(*rand.Rand) *lbs.Balancer

func newWorld(gateways []*station, balancers int, seed uint64, newBalancer maker) *world {
	w := &world{gateways: gateways, rand: rand.New(rand.NewPCG(seed, 1)), age: step}
	for _, s := range gateways {
		s.Shares = balancers
	}
	for i := range balancers {
		w.balancers = append(w.balancers, newBalancer(rand.New(rand.NewPCG(seed, uint64(i)+2))))
	}
	w.say()
	w.tell()
	return w
}

// say has the gateways say what they are.
func (w *world) say() {
	var all []lbs.Gateway
	for _, s := range w.gateways {
		s.Memory = s.memory - s.taken
		all = append(all, s.Gateway)
	}
	w.said = append(w.said, all)
}

// tell brings the oldest of what the gateways said to all LBS.
func (w *world) tell() {
	for _, b := range w.balancers {
		b.Update(lbs.View{Gateways: slices.Clone(w.said[0])}, w.now)
	}
	w.said = w.said[1:]
}

// to goes on to a time. Clients connect meanwhile, and gateways say so.
func (w *world) to(at time.Duration) {
	for w.now < at {
		w.now = min(at, w.now.Truncate(step)+step)
		for _, s := range w.gateways {
			s.coming = slices.DeleteFunc(s.coming, func(a arrival) bool {
				if a.at > w.now {
					return false
				}
				s.Connections++
				s.taken += a.cost
				return true
			})
		}
		if w.now%time.Second == 0 {
			w.say()
		}
		if (w.now-w.age)%time.Second == 0 && w.now > w.age {
			w.tell()
		}
	}
}

// settle goes on until all who were assigned have connected, and all LBS have heard of it.
func (w *world) settle() { w.to(w.now + 2*lbs.Remember) }

// newcomer returns the request of a client that nobody has seen before, whose address is not known.
func (w *world) newcomer() lbs.Request {
	w.clients++
	return lbs.Request{User: pim.UserID(fmt.Sprint("user", w.clients))}
}

// ask has one client ask one of the LBS, and dial as it is told before its place is given up.
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
		s.coming = append(s.coming, arrival{w.now + time.Duration(w.rand.Int64N(int64(lbs.LeaseTime))), cost})
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
