// Package bustest has a network in memory for tests of what uses a bus.Bus, which fails on command, and
// the suite that every bus.Bus passes.
//
//	network := bustest.NewNetwork()
//	a, b := network.Join(bus.Node{Name: "a"}), network.Join(bus.Node{Name: "b"})
//	a.Start(ctx, handler)
//	b.Start(ctx, handler)
//	network.Partition([]string{"a"}, []string{"b"})
//
// The nodes are those of package link, as in a real cluster; only what is between them is not. Nothing in
// it goes by the wall clock, so in a bubble of testing/synctest the seconds after which a node is out of
// the view take no time. The test closes every node that it joined.
package bustest

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link"
)

// Network is a network between nodes in one process. All methods may be called concurrently.
type Network struct {
	mu     sync.Mutex
	runs   uint64
	nodes  map[string]*link.Node // the newest of each name
	ports  map[*port]struct{}
	wires  map[[2]string]*wire // by sender and receiver
	cuts   map[[2]string]bool  // sender and receiver
	lose   map[[2]string]int   // messages to lose yet
	share  float64             // of all frames that is lost
	rng    *rand.Rand
	delay  time.Duration
	slow   map[[2]string]time.Duration // what delay is between them, by sender and receiver
	logger *slog.Logger
}

// NewNetwork returns a network without nodes and without faults, on which frames take no time.
func NewNetwork() *Network {
	return &Network{
		nodes: map[string]*link.Node{}, ports: map[*port]struct{}{}, wires: map[[2]string]*wire{},
		cuts: map[[2]string]bool{}, lose: map[[2]string]int{}, slow: map[[2]string]time.Duration{},
	}
}

// Log has the nodes that join from now on write their log to l.
func (n *Network) Log(l *slog.Logger) {
	n.mu.Lock()
	n.logger = l
	n.mu.Unlock()
}

// Join returns a node that has not started. The node's Run is one that no node of the network had before.
// What else is not given of it becomes: Protocol 1, Site "default", all roles, Weight 1. A name that
// cannot be one panics. An earlier node of that name should have been closed or killed.
func (n *Network) Join(node bus.Node) bus.Bus { return n.join(node, nil) }

// join is Join. wrap may change what carries the frames.
func (n *Network) join(node bus.Node, wrap func(link.Network) link.Network) *link.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.runs++
	node.Run = n.runs
	if node.Protocol == 0 {
		node.Protocol = 1
	}
	if node.Site == "" {
		node.Site = "default"
	}
	if node.Roles == 0 {
		node.Roles = bus.AllRoles
	}
	if node.Weight == 0 {
		node.Weight = 1
	}
	var network link.Network = &port{network: n}
	if wrap != nil {
		network = wrap(network)
	}
	joined, err := link.New(link.Options{Self: node, Network: network, Logger: n.logger})
	if err != nil {
		panic("bustest: " + err.Error())
	}
	n.nodes[node.Name] = joined
	return joined
}

// Kill ends the newest node of that name without a word to the others. It waits for the calls of its
// Handler. To start the node again, join it again.
func (n *Network) Kill(name string) {
	n.mu.Lock()
	node := n.nodes[name]
	n.mu.Unlock()
	if node != nil {
		node.Vanish()
	}
}

// Partition cuts all nodes of a off from all of b, in both directions. What is on its way is lost.
func (n *Network) Partition(a, b []string) {
	for _, x := range a {
		for _, y := range b {
			n.Cut(x, y)
			n.Cut(y, x)
		}
	}
}

// Cut has everything lost that one node sends to another, and nothing of the other direction.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	n.cuts[[2]string{from, to}] = true
	n.mu.Unlock()
}

// Heal ends all partitions, cuts and losses that were ordered.
func (n *Network) Heal() {
	n.mu.Lock()
	clear(n.cuts)
	clear(n.lose)
	n.share = 0
	n.mu.Unlock()
}

// Lose has the next messages that one node sends to another lost, as many as count says. Requests,
// answers and what the nodes tell each other of themselves are no messages.
func (n *Network) Lose(from, to string, count int) {
	n.mu.Lock()
	n.lose[[2]string{from, to}] += count
	n.mu.Unlock()
}

// LoseShare has a share, 0 to 1, of everything lost that is sent from now on. Which is it, is in the seed and in
// the order in which the nodes send.
func (n *Network) LoseShare(share float64, seed uint64) {
	n.mu.Lock()
	n.share, n.rng = share, rand.New(rand.NewPCG(seed, 0))
	n.mu.Unlock()
}

// Delay says how long everything that is sent from now on takes. It changes no order.
func (n *Network) Delay(d time.Duration) {
	n.mu.Lock()
	n.delay = d
	n.mu.Unlock()
}

// Slow says how long everything takes that is sent from now on by one node to another, whatever Delay says. It changes
// no order of what goes that way, and does of what goes another one.
func (n *Network) Slow(from, to string, d time.Duration) {
	n.mu.Lock()
	n.slow[[2]string{from, to}] = d
	n.mu.Unlock()
}

// Stall has what the nodes of that name send wait, inside the sending node, until it is called with
// false. A node whose network stalls for seconds is silent for the others.
func (n *Network) Stall(name string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.ports {
		if p.name != name {
			continue
		}
		if on && p.stalled == nil {
			p.stalled = make(chan struct{})
		} else if !on && p.stalled != nil {
			close(p.stalled)
			p.stalled = nil
		}
	}
}

// port is where one node is on the network. It is a link.Network.
type port struct {
	network *Network
	name    string
	receive func([]byte)
	stalled chan struct{} // guarded by network.mu; nil: it goes on

	calls  sync.RWMutex // held for reading while receive runs
	closed bool         // guarded by calls
}

func (p *port) Open(_ context.Context, self string, receive func([]byte)) error {
	p.calls.Lock()
	defer p.calls.Unlock()
	if p.closed {
		return errClosed
	}
	p.name, p.receive = self, receive
	p.network.mu.Lock()
	p.network.ports[p] = struct{}{}
	p.network.mu.Unlock()
	return nil
}

var errClosed = pim.Errorf(pim.KindUnavailable, "the network is closed")

func (p *port) Send(to string, frame []byte) error {
	return p.send(frame, func(other *port) bool { return other.name == to })
}

func (p *port) Broadcast(frame []byte) error {
	return p.send(frame, func(other *port) bool { return true })
}

// Reaches implements link.Reacher: of a cut nobody knows, but that a node is not there any more.
func (p *port) Reaches(to string) bool {
	return slices.ContainsFunc(p.network.others(p), func(other *port) bool { return other.name == to })
}

func (p *port) send(frame []byte, is func(*port) bool) error {
	if !p.ready() {
		return errClosed
	}
	for _, other := range p.network.others(p) {
		if is(other) {
			p.network.carry(p.name, other, bytes.Clone(frame))
		}
	}
	return nil
}

// ready waits while the port is stalled, and reports whether it is open.
func (p *port) ready() bool {
	for {
		p.network.mu.Lock()
		stalled := p.stalled
		_, ok := p.network.ports[p]
		p.network.mu.Unlock()
		if stalled == nil || !ok {
			return ok
		}
		<-stalled
	}
}

func (p *port) Close() {
	p.network.mu.Lock()
	delete(p.network.ports, p)
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
	p.network.mu.Unlock()
	p.calls.Lock()
	p.closed = true
	p.calls.Unlock()
}

// deliver hands a frame to the node.
func (p *port) deliver(frame []byte) {
	p.calls.RLock()
	defer p.calls.RUnlock()
	if !p.closed {
		p.receive(frame)
	}
}

// others returns the ports that are open besides p, by name.
func (n *Network) others(p *port) []*port {
	n.mu.Lock()
	defer n.mu.Unlock()
	others := make([]*port, 0, len(n.ports))
	for other := range n.ports {
		if other != p {
			others = append(others, other)
		}
	}
	slices.SortFunc(others, func(a, b *port) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return others
}

// wire keeps the order of what one node sends to another.
type wire struct {
	mu      sync.Mutex
	waiting []carried
}

type carried struct {
	to    *port
	frame []byte
}

// carry brings a frame to a port, or loses it.
func (n *Network) carry(from string, to *port, frame []byte) {
	pair := [2]string{from, to.name}
	n.mu.Lock()
	lost := n.lost(pair, frame)
	w := n.wires[pair]
	if w == nil {
		w = &wire{}
		n.wires[pair] = w
	}
	delay, ok := n.slow[pair]
	if !ok {
		delay = n.delay
	}
	n.mu.Unlock()
	if lost {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if delay == 0 && len(w.waiting) == 0 {
		to.deliver(frame)
		return
	}
	w.waiting = append(w.waiting, carried{to, frame})
	time.AfterFunc(delay, func() { n.arrive(w, pair) })
}

// arrive delivers the first frame of a wire that waits.
func (n *Network) arrive(w *wire, pair [2]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.waiting[0]
	w.waiting = w.waiting[1:]
	n.mu.Lock()
	cut := n.cuts[pair]
	n.mu.Unlock()
	if !cut {
		first.to.deliver(first.frame)
	}
}

// lost reports whether a frame is lost. n.mu is held.
func (n *Network) lost(pair [2]string, frame []byte) bool {
	switch {
	case n.cuts[pair]:
		return true
	case n.lose[pair] > 0 && link.IsMessage(frame):
		n.lose[pair]--
		return true
	}
	return n.share > 0 && n.rng.Float64() < n.share
}
