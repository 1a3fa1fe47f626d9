package nats

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/bus/link"
)

// faults are what the suite has go wrong between the nodes of one test.
type faults struct {
	mu   sync.Mutex
	lose map[[2]string]int
	cuts map[[2]string]bool
	held map[string]chan struct{}
}

// faultyNetwork is between a node and NATS.
type faultyNetwork struct {
	link.Network
	name   string
	faults *faults
}

// passes waits while the network is held, and reports whether a frame is not lost.
func (n *faultyNetwork) passes(to string, frame []byte) bool {
	n.faults.mu.Lock()
	held := n.faults.held[n.name]
	n.faults.mu.Unlock()
	if held != nil {
		<-held
	}
	n.faults.mu.Lock()
	defer n.faults.mu.Unlock()
	pair := [2]string{n.name, to}
	switch {
	case n.faults.cuts[pair]:
		return false
	case n.faults.lose[pair] > 0 && link.IsMessage(frame):
		n.faults.lose[pair]--
		return false
	}
	return true
}

func (n *faultyNetwork) Send(to string, frame []byte) error {
	if !n.passes(to, frame) {
		return nil
	}
	return n.Network.Send(to, frame)
}

func (n *faultyNetwork) Broadcast(frame []byte) error {
	n.passes("", frame)
	return n.Network.Broadcast(frame)
}

// nodes are the nodes of one test.
type nodes struct {
	t      *testing.T
	faults faults
	common Options // of all of them

	mu   sync.Mutex
	open map[string]*Bus
}

func newNodes(t *testing.T, common Options) *nodes {
	if testing.Verbose() {
		common.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return &nodes{
		t: t, common: common, open: map[string]*Bus{},
		faults: faults{lose: map[[2]string]int{}, cuts: map[[2]string]bool{}, held: map[string]chan struct{}{}},
	}
}

func self(name string) bus.Node {
	return bus.Node{Name: name, Run: uint64(time.Now().UnixNano()), Protocol: 1, Site: "default", Roles: bus.AllRoles, Weight: 1}
}

// join returns a node that joins those that have been started.
func (n *nodes) join(name string) bus.Bus {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.common
	o.Self = self(name)
	if len(o.Servers) == 0 {
		o.Listen = "127.0.0.1:0"
		for _, other := range n.open {
			if addr := other.ClusterAddr(); addr != "" {
				o.Join = append(o.Join, addr)
			}
		}
	}
	b, err := New(o)
	if err != nil {
		n.t.Fatal(err)
	}
	b.Node, err = link.New(link.Options{Self: o.Self, Network: &faultyNetwork{b.network, name, &n.faults}, Logger: o.Logger})
	if err != nil {
		n.t.Fatal(err)
	}
	n.open[name] = b
	return b
}

func (n *nodes) cluster() *bustest.Cluster {
	return &bustest.Cluster{
		Join: n.join,
		Kill: func(name string) {
			n.mu.Lock()
			b := n.open[name]
			n.mu.Unlock()
			b.Vanish()
		},
		Lose: func(from, to string, count int) {
			n.faults.mu.Lock()
			n.faults.lose[[2]string{from, to}] += count
			n.faults.mu.Unlock()
		},
		Cut: func(a, b string) {
			n.faults.mu.Lock()
			n.faults.cuts[[2]string{a, b}], n.faults.cuts[[2]string{b, a}] = true, true
			n.faults.mu.Unlock()
		},
		Heal: func() {
			n.faults.mu.Lock()
			clear(n.faults.cuts)
			n.faults.mu.Unlock()
		},
		Hold: func(name string, on bool) {
			n.faults.mu.Lock()
			defer n.faults.mu.Unlock()
			if on {
				n.faults.held[name] = make(chan struct{})
			} else {
				close(n.faults.held[name])
				delete(n.faults.held, name)
			}
		},
	}
}

// TestEmbedded plays the suite over the routes between embedded servers.
func TestEmbedded(t *testing.T) {
	bustest.Run(t, bustest.Suite{Open: func(t *testing.T) *bustest.Cluster { return newNodes(t, Options{}).cluster() }})
}

// The embedded server knows that a node has died as soon as the connection to it has broken.
func TestReaches(t *testing.T) {
	n := newNodes(t, Options{})
	handler := &bus.Handler{}
	a := n.join("a").(*Bus)
	defer a.Close()
	if err := a.Start(t.Context(), handler); err != nil {
		t.Fatal(err)
	}
	b := n.join("b").(*Bus)
	if err := b.Start(t.Context(), handler); err != nil {
		t.Fatal(err)
	}
	reaches := func(want bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); a.network.Reaches("b") != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a reaches b: %v", !want)
			}
		}
	}
	reaches(true)
	b.Vanish()
	reaches(false)
	if !a.network.Reaches("a") {
		t.Error("a does not reach itself")
	}
}
