package route

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/route/routepb"
	"github.com/pim-im/pim/store/storetest"
)

var names = []string{"a", "b", "c"}

// play plays the schedule of a seed: users send through any node, while messages between nodes are lost,
// nodes are cut off, drain, hang, die and come back, and the store fails. It returns what was wrong.
func (v variant) play(t *testing.T, seed uint64) (wrong []string) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, names, v)
		defer func() {
			for _, n := range w.nodes {
				n.close()
			}
		}()
		w.makeGroup()
		w.store.(*storetest.Loosened).FailRate(float64(w.rng.IntN(3)) * 0.02)
		for range 30 + w.rng.IntN(60) {
			w.step()
		}
		w.store.(*storetest.Loosened).FailRate(0)
		w.settle()
		wrong = w.check()
	})
	return wrong
}

// warm has n and other nodes load conversations that may change hands.
func (n *node) warm(leaves bool) {
	soon, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if leaves {
		n.HandOver(soon)
	} else {
		n.WarmUp(soon)
	}
}

// step is one step of a schedule.
func (w *world) step() {
	i := w.rng.IntN(len(w.nodes))
	n := w.nodes[i]
	other := w.nodes[(i+1+w.rng.IntN(len(w.nodes)-1))%len(w.nodes)]
	switch w.rng.IntN(30) {
	case 0:
		w.network.Lose(n.name, other.name, 1+w.rng.IntN(5))
	case 1:
		w.network.Partition([]string{n.name}, []string{other.name})
	case 2:
		w.network.Cut(n.name, other.name)
	case 3, 4:
		w.network.Heal()
	case 5:
		w.kill(n)
		w.open(i, n.name, uint32(1+w.rng.IntN(3)), bus.AllRoles)
	case 6:
		draining := w.rng.IntN(2) == 0
		go n.warm(draining) // while others send
		n.bus.Update(func(n *bus.Node) { n.Draining = draining })
	case 7:
		weight := uint32(w.rng.IntN(4))
		n.bus.Update(func(n *bus.Node) { n.Weight = weight })
	case 8:
		w.network.Delay(time.Duration(w.rng.IntN(3)) * 700 * time.Millisecond)
	case 9:
		w.network.LoseShare(float64(w.rng.IntN(3))*0.1, w.rng.Uint64())
	case 10, 11:
		time.Sleep(time.Duration(w.rng.IntN(8000)) * time.Millisecond)
	default:
		u := users[w.rng.IntN(len(users))]
		var some []*want
		for range 1 + w.rng.IntN(4) {
			some = append(some, w.new(u))
		}
		w.send(n, some...)
		if some[0].Conversation != w.group && w.rng.IntN(4) == 0 {
			w.send(other, some[0]) // a client that has changed nodes meanwhile
		}
		time.Sleep(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	}
}

// Whatever becomes of nodes and messages: each request is answered once, the log holds each client message ID
// once, and the first answer holds.
//
// PIM_SEED plays one schedule, PIM_ROUTES says how many are played.
func TestSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(400), "PIM_ROUTES")
	failed := 0
	for seed := first; seed < first+n && failed < 3; seed++ {
		if wrong := (variant{}).play(t, seed); len(wrong) > 0 {
			failed++
			t.Errorf("PIM_SEED=%d:\n%s", seed, strings.Join(wrong, "\n"))
		}
	}
}

// lossy plays a schedule in which only messages between nodes are lost.
func (v variant) lossy(t *testing.T, seed uint64) (wrong []string) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, names, v)
		for range 40 {
			i := w.rng.IntN(len(w.nodes))
			n, other := w.nodes[i], w.nodes[(i+1+w.rng.IntN(len(w.nodes)-1))%len(w.nodes)]
			if w.rng.IntN(4) == 0 {
				w.network.Lose(n.name, other.name, 1+w.rng.IntN(3))
			}
			u := w.rng.IntN(len(users))
			var some []*want
			for range 1 + w.rng.IntN(3) {
				some = append(some, w.new(users[u]))
			}
			w.send(w.nodes[u%len(w.nodes)], some...) // a user stays with a node
			time.Sleep(time.Duration(w.rng.IntN(300)) * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wrong = append(w.check(), w.inOrder()...)
		for _, n := range w.nodes {
			n.close()
		}
	})
	return wrong
}

// When messages are lost and nothing else happens, everything is answered and written in the order in which
// each user sent it, without the users' help.
func TestOrderHoldsThroughLosses(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(400), "PIM_ROUTES")
	failed := 0
	for seed := first; seed < first+n && failed < 3; seed++ {
		if wrong := (variant{}).lossy(t, seed); len(wrong) > 0 {
			failed++
			t.Errorf("PIM_SEED=%d:\n%s", seed, strings.Join(wrong, "\n"))
		}
	}
}

// twice is an outlet through which everything is answered twice.
type twice struct{ conv.Outlet }

func (o twice) Deliver(answers []conv.Answer, pushes []conv.Published) {
	o.Outlet.Deliver(answers, pushes)
	o.Outlet.Deliver(answers, nil)
}

// unnumbered is a bus on which each message begins a round, so that none is missed.
type unnumbered struct {
	bus.Bus
	round atomic.Uint64
}

func (b *unnumbered) Send(to string, k bus.Kind, body []byte) error {
	var m routepb.Submit
	if k == bus.KindSubmit && m.UnmarshalVT(body) == nil {
		m.Round, m.Place = b.round.Add(1), 0
		body, _ = m.MarshalVT()
	}
	return b.Bus.Send(to, k, body)
}

// Routers that are broken on purpose are noticed.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(*testing.T, uint64) []string
		says string
	}{
		{"answers twice", variant{outlet: func(o conv.Outlet) conv.Outlet { return twice{o} }}.play, "answered 2 times"},
		{"asks once only", variant{patient: true}.play, "no answer"},
		{"numbers nothing", variant{bus: func(b bus.Bus) bus.Bus { return &unnumbered{Bus: b} }}.lossy, "the one before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := seeds.First(t)
			for seed := first; seed < first+100; seed++ {
				if slices.ContainsFunc(c.play(t, seed), func(s string) bool { return strings.Contains(s, c.says) }) {
					return
				}
			}
			t.Error("not noticed in 100 schedules")
		})
	}
}
