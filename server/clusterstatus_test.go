package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// lent is a store that other nodes use, too. It stays open when a server closes it.
type lent struct{ store.Store }

// Close implements store.Store.
func (lent) Close() error { return nil }

// startNodes starts nodes with these names over one store. Each sees all when startNodes returns.
func startNodes(t *testing.T, network *bustest.Network, options func(name string, c *server.Config, o *server.Options), names ...string) []*node {
	t.Helper()
	st, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	var nodes []*node
	var buses []bus.Bus
	for _, name := range names {
		c, o := config(t), server.Options{Store: lent{st}, Bus: network.Join(bus.Node{Name: name, Weight: 100})}
		if len(nodes) > 0 {
			c.Keys = nodes[0].config.KeysPath()
		}
		if options != nil {
			options(name, &c, &o)
		}
		buses = append(buses, o.Bus)
		nodes = append(nodes, start(t, c, o))
	}
	for _, b := range buses {
		for len(b.View().Nodes) < len(names) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nodes
}

// status asks a node for the status.
func (n *node) status() server.ClusterStatus {
	n.t.Helper()
	s, err := server.Status(n.t.Context(), n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// until asks a node for the status until it is as ok says.
func (n *node) until(what string, ok func(server.ClusterStatus) bool) {
	n.t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s := n.status()
		if ok(s) {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("waited in vain for %s: %+v", what, s)
		}
	}
}

func shares(s server.ClusterStatus) string {
	var all []string
	for _, n := range s.Nodes {
		all = append(all, fmt.Sprintf("%s %.2f %.2f", n.Node, n.Conversations, n.Users))
	}
	return strings.Join(all, ", ")
}

func TestClusterStatus(t *testing.T) {
	network := bustest.NewNetwork()
	nodes := startNodes(t, network, nil, "a", "b", "c")
	nodes[1].connect("alice", "1", "http").says(pim.Direct("alice", "bob"), "x")
	var s server.ClusterStatus
	nodes[0].until("all nodes to see each other", func(now server.ClusterStatus) bool { s = now; return len(now.Wrong) == 0 })
	if s.Asked != "a" || shares(s) != "a 0.33 0.33, b 0.33 0.33, c 0.33 0.33" {
		t.Errorf("%s asked: %s", s.Asked, shares(s))
	}
	for _, n := range s.Nodes {
		if r := n.Report; r == nil || r.Store.Identity != s.Nodes[0].Report.Store.Identity || !slices.Equal(r.Sees, []string{"a", "b", "c"}) || n.ClockError == 0 && n.Node != "a" {
			t.Errorf("%+v: %+v", n, r)
		}
	}
	if got := s.Nodes[1].Report.Connections; got != 1 {
		t.Errorf("b has %d connections", got)
	}

	// A node that hangs: it is there, and says nothing.
	stuck := network.Join(bus.Node{Name: "stuck", Roles: bus.RoleLBS})
	t.Cleanup(stuck.Close)
	hang := func(ctx context.Context, _ string, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	if err := stuck.Start(t.Context(), &bus.Handler{Answer: map[bus.Kind]func(context.Context, string, []byte) ([]byte, error){bus.KindStatus: hang}}); err != nil {
		t.Fatal(err)
	}
	nodes[0].until("the node that hangs to be listed", func(s server.ClusterStatus) bool {
		return slices.Contains(s.Wrong, "stuck: the node does not answer: no answer within 2s")
	})
}

// A node that drains by order has no share and is not ready. Its device, which is told of no other node, comes back to it and stays.
func TestDrainByOrder(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), nil, "a", "b", "c")
	alice := nodes[1].connect("alice", "1", "http")
	alice.says(pim.Direct("alice", "bob"), "before")
	ready := func() int {
		resp, err := http.Get(nodes[1].url("http") + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	order := func(node string, drain bool) error { return server.Drain(t.Context(), nodes[0].config, node, drain) }
	for range 2 { // an order may be repeated
		if err := order("b", true); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].until("b to drain", func(s server.ClusterStatus) bool {
		return shares(s) == "a 0.50 0.50, b 0.00 0.00, c 0.50 0.50" && s.Nodes[1].Draining && len(s.Wrong) == 0
	})
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d", got)
	}
	alice.says(pim.Direct("alice", "bob"), "meanwhile")
	for _, node := range []string{"a", "c"} {
		if err := order(node, true); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].until("a warning that no node is left", func(s server.ClusterStatus) bool {
		return slices.Contains(s.Wrong, "no node is there as writer: all that have the role drain, or have no weight")
	})
	for _, node := range []string{"a", "b", "c"} {
		if err := order(node, false); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].until("no node to drain", func(s server.ClusterStatus) bool {
		return shares(s) == "a 0.33 0.33, b 0.33 0.33, c 0.33 0.33" && len(s.Wrong) == 0
	})
	if got := ready(); got != http.StatusOK {
		t.Errorf("/readyz is %d", got)
	}
	if err := order("d", true); pim.KindOf(err) != pim.KindNotFound {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestStatusSaysWhoseClockIsOff(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, _ *server.Config, o *server.Options) {
		if name == "c" {
			o.Clock = clock.Source{Now: func() time.Time { return time.Now().Add(time.Hour) }}
		}
	}, "a", "b", "c")
	for _, n := range nodes {
		n.until("the clock of c", func(s server.ClusterStatus) bool {
			return slices.ContainsFunc(s.Wrong, func(line string) bool {
				return strings.HasPrefix(line, "c: its clock is ") && strings.HasSuffix(line, " ahead of what most nodes say")
			})
		})
	}
}
