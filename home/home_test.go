package home

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/gateway"
)

// bubble runs a test in virtual time, in a world with one group of all users.
func bubble(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		test(w)
	})
}

const everybody = pim.ConversationID("g:test")

// fills connects n users to the nodes in turn, all of them members of the group.
func (w *world) fills(n int, sites ...*site) (phones []*phone) {
	w.t.Helper()
	for i := range n {
		u := pim.UserID(fmt.Sprint("user", i))
		w.mu.Lock()
		w.groups[everybody] = append(w.groups[everybody], u)
		w.mu.Unlock()
		phones = append(phones, sites[i%len(sites)].must(u, "phone"))
	}
	return phones
}

// good checks the world, and that told connections were told to sync since it began.
func (w *world) good(told int) {
	w.t.Helper()
	if err := w.check(); err != nil {
		w.t.Error(err)
	}
	if n := w.toldAll(); told >= 0 && n != told {
		w.t.Errorf("%d connections were told to sync, want %d", n, told)
	}
}

func TestMessagesReachDevicesOnAllNodes(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		w.fills(30, sites...)
		for i := range 30 {
			sites[i%3].writes(everybody)
		}
		synctest.Wait()
		w.good(0)
		for _, s := range sites { // one user has a second device elsewhere
			s.must("user0", pim.DeviceID("laptop-"+s.name))
		}
		sites[1].writes(everybody)
		synctest.Wait()
		w.good(0)
		for _, s := range sites {
			for _, p := range s.all() {
				s.leaves(p)
			}
		}
		synctest.Wait()
		w.good(0)
	})
}

// A device has one connection on all nodes. When its new one goes on, the acknowledgements that the node of
// the old one had are stored.
func TestDeviceIsReplacedAcrossNodes(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		time.Sleep(2 * grace) // after a change, the home before asks, too
		w.fills(9, sites...)
		for round := range 9 {
			for i := range 9 {
				u := pim.UserID(fmt.Sprint("user", i))
				from, to := sites[(i+round)%3], sites[(i+round+1)%3]
				before := from.acks["phone"]
				to.must(u, "phone")
				if len(from.of(u)) != 0 || from.acks["phone"] != before+1 {
					t.Fatalf("%s at %s: %d connections, acknowledgements stored %d times", u, from.name, len(from.of(u)), from.acks["phone"]-before)
				}
			}
			sites[0].writes(everybody)
		}
		synctest.Wait()
		w.good(0)
	})
}

// A connection that was opened first and whose handshake ends last is the one that ends.
func TestOlderConnectionDoesNotReplace(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		w.fills(9, sites...)
		for i := range 9 {
			u := pim.UserID(fmt.Sprint("user", i))
			old := sites[(i+1)%3].opens(u, "phone")
			time.Sleep(5 * time.Second)
			sites[(i+2)%3].must(u, "phone")
			time.Sleep(time.Second)
			if err := old.site.shakes(old, 6*time.Second); !errors.Is(err, gateway.ErrReplaced) {
				t.Errorf("the older connection: %v", err)
			}
		}
		sites[0].writes(everybody)
		synctest.Wait()
		w.good(0)
	})
}

func TestConnectionsOfAUserAreBoundedOverAllNodes(t *testing.T) {
	bubble(t, func(w *world) {
		w.limit = 4
		sites := w.start("a", "b", "c")
		for i := range 4 {
			sites[i%3].must("alice", pim.DeviceID(fmt.Sprint(i)))
		}
		for _, s := range sites {
			if _, err := s.connects("alice", "one more"); pim.KindOf(err) != pim.KindOverloaded {
				t.Errorf("at %s: %v", s.name, err)
			}
		}
		sites[2].must("alice", "0") // from a
		p := sites[1].of("alice")[0]
		p.site.leaves(p)
		synctest.Wait()
		sites[0].must("alice", "one more")
		w.good(0)
	})
}

// A node that joins takes its share of the users over, and nobody is told to sync; nor when it leaves
// well. That holds for pushes that do not meet the change: a new home that gets one before it knows the device tells it to sync.
func TestNobodySyncsInPeace(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b")
		w.fills(60, sites...)
		stop := w.talks(sites...)
		time.Sleep(3*time.Second + 50*time.Millisecond) // the changes come between two messages
		c := w.starts("c")
		time.Sleep(10 * time.Second)
		if n := c.home.directory.count.Load(); n < 5 {
			t.Errorf("the new node is the home of %d devices", n)
		}
		time.Sleep(grace)
		c.drains()
		time.Sleep(10 * time.Second)
		c.end(false)
		time.Sleep(grace + 10*time.Second)
		stop()
		synctest.Wait()
		w.good(0)
	})
}

// talks has messages written at the nodes, ten a second, until it is stopped.
func (w *world) talks(sites ...*site) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-time.After(100 * time.Millisecond):
				sites[i%len(sites)].writes(everybody)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// What is lost between any two nodes is found at once.
func TestLostMessages(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		w.fills(30, sites...)
		for _, from := range sites {
			for _, to := range sites {
				if from == to {
					continue
				}
				w.network.Lose(from.name, to.name, 1)
				sites[0].writes(everybody)
				sites[1].writes(everybody)
				sites[2].writes(everybody)
				time.Sleep(5 * time.Second)
				w.good(-1)
			}
		}
	})
}

func TestNodesDie(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		w.fills(30, sites...)
		stop := w.talks(sites[0])
		sites[2].writes(everybody)
		w.network.Cut("c", "a")
		w.network.Cut("c", "b")
		sites[2].writes(everybody) // durable, and not published before it dies
		sites[2].end(true)
		time.Sleep(10 * time.Second)
		stop()
		synctest.Wait()
		w.good(-1)
		for _, s := range sites[:2] {
			if s.told == 0 {
				t.Errorf("at %s nobody was told to sync", s.name)
			}
		}
		w.network.Heal()
		c := w.starts("c")
		time.Sleep(5 * time.Second)
		c.must("user2", "phone")
		sites[0].writes(everybody)
		c.writes(everybody)
		time.Sleep(time.Second)
		w.good(-1)
	})
}

func TestPartitions(t *testing.T) {
	for _, apart := range []time.Duration{2 * time.Second, 20 * time.Second, 2 * grace} {
		bubble(t, func(w *world) {
			sites := w.start("a", "b", "c")
			w.fills(30, sites...)
			stop := w.talks(sites...)
			w.network.Partition([]string{"a"}, []string{"b", "c"})
			time.Sleep(apart)
			w.network.Heal()
			time.Sleep(10 * time.Second)
			stop()
			synctest.Wait()
			w.good(-1)
		})
	}
}

// A home that does not answer holds a handshake up for patience, and its devices are told to sync when it
// knows them.
func TestHomeThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b")
		w.network.Cut("b", "a") // a's question arrives, and no answer
		begun := time.Now()
		w.fills(10, sites[0])
		if took := time.Since(begun); took > 11*patience {
			t.Errorf("ten handshakes took %v", took)
		}
		w.network.Heal()
		sites[1].writes(everybody)
		time.Sleep(10 * time.Second)
		sites[1].writes(everybody)
		time.Sleep(time.Second)
		w.good(-1)
	})
}

// A node that writes before it has heard of all others tells them when it does.
func TestWriterThatHasJustStarted(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b")
		w.fills(30, sites...)
		w.network.Partition([]string{"c"}, []string{"b"})
		c := w.starts("c")
		time.Sleep(500 * time.Millisecond)
		c.writes(everybody)
		w.network.Heal()
		time.Sleep(10 * time.Second)
		w.good(-1)
	})
}

// A node whose bus takes long to come up has missed nothing, and nobody has missed it.
func TestSlowStart(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b")
		w.fills(30, sites...)
		sites[0].writes(everybody)
		sites[1].writes(everybody)
		c := w.makes("c")
		time.Sleep(20 * time.Second)
		c.joins()
		time.Sleep(Settle + 10*time.Second)
		c.writes(everybody)
		synctest.Wait()
		w.good(0)
	})
}

// A gateway that is dead, and still in the view, does not hold up the devices that come back elsewhere until
// their handshakes go on without the home.
func TestReplacedAtADeadNode(t *testing.T) {
	bubble(t, func(w *world) {
		sites := w.start("a", "b", "c")
		w.fills(9, sites[2])
		w.network.Partition([]string{"c"}, []string{"a", "b"})
		for i := range 9 {
			u := pim.UserID(fmt.Sprint("user", i))
			if c := sites[0].home.cluster.Load().homeOf(u); c == nil || c.name != "b" {
				continue
			}
			begun := time.Now()
			sites[0].must(u, "phone")
			if took := time.Since(begun); took != replacement {
				t.Errorf("the handshake took %v", took)
			}
			sites[0].home.links.each(func(k *link) {
				if !k.known {
					t.Error("the home did not answer")
				}
			})
			w.network.Heal()
			return
		}
		t.Fatal("no user has b as home")
	})
}

// A node that stops says nothing of each of its connections, and nobody syncs for that.
func TestNodeWithManyConnectionsStops(t *testing.T) {
	bubble(t, func(w *world) {
		var left atomic.Int64
		w.broken = func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) {
				leave := h.Receive[bus.KindLeave]
				h.Receive[bus.KindLeave] = func(from string, body []byte) {
					left.Add(1)
					leave(from, body)
				}
			}}
		}
		sites := w.start("a", "b", "c")
		phones := w.fills(30, sites...)
		c := sites[2]
		c.drains()
		time.Sleep(3 * time.Second)
		c.home.EndsSoon()
		for _, p := range phones {
			if p.site != c {
				continue
			}
			c.leaves(p)
			sites[0].must(p.User, p.Device)
			sites[1].writes(everybody)
		}
		c.end(false)
		sites[0].writes(everybody)
		time.Sleep(10 * time.Second)
		w.good(0)
		if n := left.Load(); n != 0 {
			t.Errorf("%d connections were said to be gone", n)
		}
	})
}

// A node that stops waits for others that do not answer for two seconds, and for one at most when its time is up.
func TestCloseHurries(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration // hurry is closed; below 0: never
		most  time.Duration
	}{
		{"there is time", -1, patience},
		{"there is none", 0, 2 * hurried},
		{"it ends meanwhile", time.Second, time.Second + 2*hurried},
	} {
		bubble(t, func(w *world) {
			sites := w.start("a", "b", "c")
			w.network.Cut("b", "a") // what it says is lost; a has not noticed yet
			hurry := make(chan struct{})
			switch {
			case test.after == 0:
				close(hurry)
			case test.after > 0:
				time.AfterFunc(test.after, func() { close(hurry) })
			}
			began := time.Now()
			sites[0].home.CloseSooner(hurry)
			if took := time.Since(began); took > test.most || took < test.after {
				t.Errorf("%s: it took %v", test.name, took)
			}
			w.network.Heal()
		})
	}
}
