package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/placement"
)

// ClusterStatus is how the nodes of one pim are, as one of them has found out. The names in JSON are stable.
type ClusterStatus struct {
	Asked string       `json:"asked"` // the node that asked the others
	Nodes []NodeStatus `json:"nodes"` // by name, 64 at most, Asked among them
	More  int          `json:"more"`  // nodes that are not among Nodes
	Wrong []string     `json:"wrong"` // a sentence each; empty: nothing is wrong
}

// NodeStatus is how one node is.
type NodeStatus struct {
	// What the node that asked knows.
	Node          string  `json:"node"`
	Site          string  `json:"site"`
	Roles         string  `json:"roles"`
	Weight        int     `json:"weight"`
	Draining      bool    `json:"draining"`
	Conversations float64 `json:"conversations"` // share that the node writes, 0 to 1
	Users         float64 `json:"users"`         // share of which the node is the home, 0 to 1
	Error         string  `json:"error,omitempty"`

	// Report is what the node has said of itself; nil if Error says why it did not.
	Report *NodeReport `json:"report,omitempty"`
	// ClockOffset is how far the node's clock is ahead of that of the node that asked, and ClockError how much of it may
	// be due to the network. Both are in seconds, and 0 without a Report.
	ClockOffset float64 `json:"clock_offset"`
	ClockError  float64 `json:"clock_error"`
}

// statusWithin is how long nodes are waited for.
const statusWithin = 2 * time.Second

// clusterStatus asks all nodes how they are, in parallel, mostAsked of them at most. It takes
// statusWithin at most.
func (s *Server) clusterStatus(ctx context.Context) ClusterStatus {
	own := s.report()
	if s.cluster == nil {
		n := NodeStatus{Node: s.config.NodeName(), Site: s.config.Site, Roles: s.config.Roles, Weight: s.config.Weight, Conversations: 1, Users: 1, Report: &own}
		c := ClusterStatus{Asked: n.Node, Nodes: []NodeStatus{n}}
		c.Wrong = wrongOf(c, nil)
		return c
	}
	b := s.cluster.bus
	view := b.View()
	writers, homes := placement.New(view, bus.RoleWriter), placement.New(view, bus.RoleHome)
	some := slices.Clone(view.Nodes)
	slices.SortFunc(some, func(x, y bus.Node) int { // this node must be among them
		return cmp.Or(-compareBool(x.Name == b.Self(), y.Name == b.Self()), strings.Compare(x.Name, y.Name))
	})
	some = some[:min(len(some), mostAsked)]
	slices.SortFunc(some, func(x, y bus.Node) int { return strings.Compare(x.Name, y.Name) })
	c := ClusterStatus{Asked: b.Self(), More: len(view.Nodes) - len(some), Nodes: make([]NodeStatus, len(some))}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	var asked sync.WaitGroup
	for i, v := range some {
		n := &c.Nodes[i]
		*n = NodeStatus{
			Node: v.Name, Site: v.Site, Roles: v.Roles.String(), Weight: int(v.Weight), Draining: v.Draining,
			Conversations: writers.Share(v.Name), Users: homes.Share(v.Name),
		}
		if v.Name == b.Self() {
			n.Report = &own
			continue
		}
		asked.Go(func() {
			var a statusAnswer
			sample, err := askStatus(ctx, b, s.clock.Now, v.Name, wantReport, &a)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				n.Error = fmt.Sprintf("no answer within %s", statusWithin)
			case err != nil:
				n.Error = err.Error()
			default:
				n.Report, n.ClockOffset, n.ClockError = &a.NodeReport, sample.Offset.Seconds(), sample.Error.Seconds()
			}
		})
	}
	asked.Wait()
	c.Wrong = wrongOf(c, view)
	return c
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// faults gathers what is wrong, and with which nodes.
type faults struct {
	nodes map[string][]string // by what is wrong
	order []string
}

func (f *faults) add(node, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f.nodes == nil {
		f.nodes = make(map[string][]string)
	}
	if f.nodes[text] == nil {
		f.order = append(f.order, text)
	}
	f.nodes[text] = append(f.nodes[text], node)
}

// lines returns a sentence for each fault.
func (f *faults) lines() []string {
	lines := make([]string, 0, len(f.order))
	for _, text := range f.order {
		lines = append(lines, named(f.nodes[text])+": "+text)
	}
	return lines
}

// named returns some names for people.
func named(names []string) string {
	if n := len(names); n > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), n-3)
	}
	return strings.Join(names, ", ")
}

// wrongOf returns what is wrong with the nodes of c. view is that of the node that asked; nil: it is the only one.
func wrongOf(c ClusterStatus, view *bus.View) []string {
	var f faults
	identities := make(map[string][]string)
	for _, n := range c.Nodes {
		r := n.Report
		if r == nil {
			f.add(n.Node, "the node does not answer: %s", n.Error)
			continue
		}
		if r.NotReady != "" && r.NotReady != errDraining.Error() {
			f.add(n.Node, "the node is not ready: %s", r.NotReady)
		}
		for _, k := range []struct {
			nodes int
			state string
		}{{r.Store.Silent, "silent"}, {r.Store.Down, "down"}} {
			if k.nodes > 0 {
				f.add(n.Node, "of the nodes of Cassandra %d of %d are %s", k.nodes, r.Store.Up+r.Store.Silent+r.Store.Down, k.state)
			}
		}
		if r.Store.Unsafe {
			f.add(n.Node, "settings of Cassandra would lose messages, and nothing is written; the log says what to set")
		}
		if len(r.Sees) > 0 && len(r.Sees) < mostAsked {
			for _, other := range c.Nodes {
				if !slices.Contains(r.Sees, other.Node) {
					f.add(n.Node, "the node does not see %s", other.Node)
				}
			}
		}
		identities[r.Store.Identity] = append(identities[r.Store.Identity], n.Node)
	}
	lines := f.lines()
	if len(identities) > 1 {
		var groups []string
		for _, nodes := range slices.SortedFunc(maps.Values(identities), slices.Compare) {
			groups = append(groups, named(nodes))
		}
		lines = append(lines, "the nodes do not have one store: "+strings.Join(groups, " | "))
	}
	if view == nil {
		return lines
	}
	for _, role := range []bus.Role{bus.RoleGateway, bus.RoleWriter, bus.RoleHome} {
		if !slices.ContainsFunc(view.Nodes, func(n bus.Node) bool {
			return n.Roles.Has(role) && !n.Draining && (n.Weight > 0 || role == bus.RoleGateway)
		}) {
			lines = append(lines, fmt.Sprintf("no node is there as %s: all that have the role drain, or have no weight", role))
		}
	}
	return append(lines, wrongClocks(c)...)
}

// wrongClocks returns whose clocks are off.
func wrongClocks(c ClusterStatus) (lines []string) {
	var peers clock.Peers
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	for _, n := range c.Nodes {
		if n.Report != nil && n.Node != c.Asked {
			peers.Take(n.Node, clock.Sample{Offset: seconds(n.ClockOffset), Error: seconds(n.ClockError)}, 0)
		}
	}
	for _, o := range peers.Judge(0) {
		name, by, way := cmp.Or(o.Node, c.Asked), o.By.Abs().Round(time.Millisecond), "ahead of"
		if o.By < 0 {
			way = "behind"
		}
		if o.Sure {
			lines = append(lines, fmt.Sprintf("%s: its clock is %s %s what most nodes say", name, by, way))
		} else {
			lines = append(lines, fmt.Sprintf("%s: its clock is %s %s that of %s, and there are too few others that agree to say which is wrong", name, by, way, c.Asked))
		}
	}
	return lines
}

// drainNode has a node drain, or no longer. Errors: KindNotFound if it is not there, KindUnsupported if there are no
// other nodes, and those of the bus.
func (s *Server) drainNode(ctx context.Context, node string, drain bool) error {
	switch {
	case s.cluster == nil:
		return pim.Errorf(pim.KindUnsupported, "drain: the server is the only node; stop it to send its devices away")
	case node == s.cluster.bus.Self():
		s.cluster.order(ctx, drain)
		return nil
	case s.cluster.bus.View().Node(node) == nil:
		return pim.Errorf(pim.KindNotFound, "drain: there is no node %q", node)
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	w := wantUndrain
	if drain {
		w = wantDrain
	}
	_, err := askStatus(ctx, s.cluster.bus, s.clock.Now, node, w, new(clockAnswer))
	if errors.Is(err, context.DeadlineExceeded) {
		return pim.Errorf(pim.KindUnavailable, "drain: node %s has not answered for %s", node, statusWithin)
	}
	return err
}

// Status asks the server on c.Data how all nodes are. Errors: KindUnavailable if no server runs there or it ends
// meanwhile, KindUnsupported if it is of an earlier version, and ctx's.
func Status(ctx context.Context, c Config) (ClusterStatus, error) {
	var s ClusterStatus
	err := c.order(ctx, "status", struct{}{}, &s)
	return s, running(err, c)
}

// Drain has the server on c.Data tell a node, which may be itself, that it drains, or no longer does. Errors: those of
// Status, KindNotFound if there is no such node, and KindUnsupported if there are no other nodes.
func Drain(ctx context.Context, c Config, node string, drain bool) error {
	return running(c.order(ctx, "drain", drainOrder{node, drain}, nil), c)
}

// running gives errNotRunning a kind.
func running(err error, c Config) error {
	if errors.Is(err, errNotRunning) {
		return pim.Errorf(pim.KindUnavailable, "%w: %s", err, c.Data)
	}
	return err
}
