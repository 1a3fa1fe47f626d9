package home

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/home/homepb"
)

// The tests of this file are about nodes that see the same thing at different times: one of them has acted on it
// when another still does what was right before.

// settled starts nodes and waits until what was before that counts no more.
func (w *world) settled(names ...string) []*site {
	sites := w.start(names...)
	time.Sleep(2 * grace)
	return sites
}

// A gateway sees first that a home is gone, and has told its devices to sync when a writer sends its last pushes to
// the dead one.
func TestWriterSeesLaterThatAHomeIsGone(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b", "c")
		w.fills(30, sites[1])
		w.network.Cut("c", "b")
		for sites[1].bus.View().Node("c") != nil {
			time.Sleep(10 * time.Millisecond)
		}
		sites[2].end(true)
		time.Sleep(300 * time.Millisecond) // c was heard a second ago at most, and is missed after one and a half
		if sites[0].bus.View().Node("c") == nil {
			t.Fatal("both see it at the same time")
		}
		sites[0].writes(everybody)
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// Pushes of a home are lost, and the users have another home before the gap shows.
func TestGapOfTheHomeBefore(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b")
		w.fills(30, sites[1])
		w.starts("c")
		time.Sleep(Settle - 500*time.Millisecond)
		w.network.Cut("a", "b")
		sites[0].writes(everybody)
		time.Sleep(time.Second)
		if sites[1].home.cluster.Load().homes.Nodes() != 3 {
			t.Fatal("c is no home")
		}
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A device goes while its node does not see its home, which sees the node all the time.
func TestDeviceGoesUnseen(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b")
		phones := w.fills(30, sites[1])
		w.network.Cut("a", "b")
		for sites[1].bus.View().Node("a") != nil {
			time.Sleep(10 * time.Millisecond)
		}
		for _, p := range phones {
			sites[1].leaves(p)
		}
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A device connects when its gateway knows of a new home, and a writer does not.
func TestDeviceThatANewHomeAloneKnows(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b")
		w.starts("c")
		time.Sleep(Settle - 500*time.Millisecond)
		w.network.Cut("c", "a")
		time.Sleep(time.Second)
		w.fills(30, sites[1])
		if n := sites[0].home.cluster.Load().homes.Nodes(); n != 2 {
			t.Fatalf("the writer knows %d homes", n)
		}
		sites[0].writes(everybody)
		synctest.Wait()
		for _, p := range sites[1].all() {
			if p.lacks() != "" {
				t.Errorf("%s has no push", p.User)
			}
		}
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A home knows a device that was announced to it as the home before, and hears when the device goes.
func TestHomeBeforeHearsThatADeviceGoes(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b", "c")
		sites[2].drains()
		time.Sleep(grace - 10*time.Second)
		w.starts("d") // c keeps what it knows for grace after this change
		time.Sleep(8 * time.Second)
		phones := w.fills(30, sites[1]) // c was the home of some until 28 s ago
		time.Sleep(5 * time.Second)
		for _, p := range phones {
			sites[1].leaves(p)
		}
		sites[2].bus.Update(func(n *bus.Node) { n.Draining = false })
		time.Sleep(time.Second)
		w.good(0)
		sites[2].home.directory.retain(func(u pim.UserID, _ *place) bool {
			t.Errorf("c knows a device of %s", u)
			return true
		})
	})
}

// A home that has said its farewell passes late pushes on, and what is lost of them is told when it leaves.
func TestLossAfterTheFarewell(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b", "c")
		w.fills(30, sites[1])
		w.network.Cut("c", "a") // a does not hear that c drains
		c := sites[2]
		c.drains()
		c.home.Close()
		w.network.Lose("c", "b", 1)
		if sites[0].bus.View().Node("c") == nil {
			t.Fatal("the writer does not see the home any more")
		}
		sites[0].writes(everybody)
		synctest.Wait()
		w.mu.Lock()
		delete(w.sites, "c")
		w.mu.Unlock()
		c.bus.Close()
		time.Sleep(500 * time.Millisecond)
		if sites[0].bus.View().Node("c") == nil {
			t.Fatal("the writer sees that the home has gone, which would be found, too")
		}
		for _, p := range sites[1].all() {
			if p.lacks() != "" {
				t.Errorf("%s has no push", p.User)
			}
		}
	})
}

// slowBus is a bus whose announcements and their answers wait before they are sent. What still waits when it is closed is lost.
type slowBus struct {
	bus.Bus
	wait *atomic.Int64
}

func (s slowBus) Send(to string, k bus.Kind, body []byte) error {
	wait := time.Duration(s.wait.Load())
	if wait == 0 || k != bus.KindAnnounce && k != bus.KindJoined {
		return s.Bus.Send(to, k, body)
	}
	body = slices.Clone(body)
	time.AfterFunc(wait, func() { s.Bus.Send(to, k, body) })
	return nil
}

// The others answer the question of a home that leaves just in time. They hear its farewell all the same, and nobody syncs.
func TestFarewellToSlowNodes(t *testing.T) {
	bubble(t, func(w *world) {
		var stops, others atomic.Int64
		w.broken = func(s *site) {
			wait := &others
			if s.name == "c" {
				wait = &stops
			}
			s.home.bus = slowBus{s.bus, wait}
		}
		sites := w.settled("a", "b", "c")
		w.fills(30, sites[0], sites[1])
		sites[0].writes(everybody)
		c := sites[2]
		c.drains()
		time.Sleep(10 * time.Second)
		stops.Store(int64(patience / 4))
		others.Store(int64(patience * 5 / 8))
		begun := time.Now()
		c.end(false)
		if took, least, most := time.Since(begun), patience*5/4, patience*3/2; took < least || took > most {
			t.Errorf("the home took %s to end, want %s to %s", took, least, most)
		}
		time.Sleep(10 * time.Second)
		sites[0].writes(everybody)
		synctest.Wait()
		w.good(0)
	})
}

// The last pushes to a home that leaves well are lost. It does not know, and the writer hears its farewell.
func TestLossBeforeTheFarewell(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b", "c")
		w.fills(30, sites[1])
		w.network.Cut("a", "c")
		sites[0].writes(everybody)
		sites[2].drains()
		sites[2].end(false)
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A new home hears of one device of a user, gets a push, and then hears of another device.
func TestDeviceThatANewHomeHearsOfLater(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b", "d")
		w.fills(30, sites[1])
		for i := range 30 {
			sites[2].must(pim.UserID(fmt.Sprint("user", i)), "other")
		}
		w.starts("c")
		time.Sleep(Settle - 500*time.Millisecond)
		w.network.Cut("c", "d")
		time.Sleep(time.Second)
		if n := sites[2].home.cluster.Load().homes.Nodes(); n != 3 {
			t.Fatalf("the other gateway knows %d homes", n)
		}
		sites[0].writes(everybody)
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A gateway has never seen a home that a writer saw, and meets it when it drains.
func TestGatewayThatHasNotSeenAHome(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "c")
		w.fills(30, sites[0])
		w.network.Partition([]string{"a"}, []string{"b"})
		b := w.starts("b")
		time.Sleep(2 * grace)
		sites[1].writes(everybody)
		b.drains()
		time.Sleep(200 * time.Millisecond)
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A farewell is that of one process of a node.
func TestFarewellOfAnotherProcess(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b")
		a, b := sites[0].home, sites[1]
		farewell, _ := (&homepb.Announce{Farewell: true}).MarshalVT()
		parted := func() bool {
			a.receiveAnnounce("b", farewell)
			synctest.Wait()
			return a.cluster.Load().peers["b"].parted.Load()
		}
		if !parted() {
			t.Error("a farewell is not noted")
		}
		b.drains()
		synctest.Wait()
		b.bus.Update(func(n *bus.Node) { n.Draining = false })
		time.Sleep(time.Second)
		if a.cluster.Load().peers["b"].parted.Load() {
			t.Error("a node that does not drain has parted")
		}
		a.mu.Lock()
		a.peers["b"].run-- // the home has not heard of the newest process
		a.mu.Unlock()
		if parted() {
			t.Error("the farewell of one process is taken for that of another")
		}
	})
}

// A writer that knows no home has pushes, and its own devices are told when there is one again, too.
func TestWriterThatKnowsNoHome(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.settled("a", "b")
		w.fills(30, sites...)
		for _, s := range sites {
			s.drains()
		}
		time.Sleep(time.Second)
		w.network.Cut("b", "a")
		sites[1].bus.Update(func(n *bus.Node) { n.Draining = false })
		time.Sleep(time.Second)
		sites[0].writes(everybody)
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A link keeps the names of few homes.
func TestHomesThatALinkWasToldTo(t *testing.T) {
	var k link
	for _, name := range []string{"a", "b", "a", "c"} {
		k.tells(name)
	}
	if want := []string{"b", "a", "c"}; !slices.Equal(k.told, want) {
		t.Errorf("told %v, want %v", k.told, want)
	}
	for i := range 2 * maxTold {
		k.tells(string(rune('d' + i)))
	}
	if len(k.told) != maxTold || k.told[maxTold-1] != string(rune('d'+2*maxTold-1)) {
		t.Errorf("told %v", k.told)
	}
}
