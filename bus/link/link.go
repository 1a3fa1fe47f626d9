// Package link makes a bus.Bus of a network that carries frames between nodes and may lose them:
// who is there, in which order messages come, that something is missing, requests and their answers.
// bus/nats and bus/bustest have nothing else to do than carry frames.
//
// # Members
//
// Once a second each node sends a beat to all, which says what bus.Node says, and a mark to each node
// of its view. A node is in the view of another while frames that are for that other one alone come
// from it; beats to all only introduce it. So A has B in its view only if frames pass in both
// directions: B sends A such frames only if it has heard A. Two nodes that meet answer each other's
// beat at once. A node that is silent for four seconds, or says that it leaves, is out.
//
// A node whose own process was held up for longer than a beat takes nobody to be silent for that.
//
// # Gaps
//
// The messages from one node to another, its link, are numbered 1, 2, 3 …. A number that cannot be
// sent is used up all the same. The mark says the last number used. So the receiver learns with the
// next message or mark, at the latest, that messages are missing; and if the marks are lost as well,
// the sender is silent and leaves the view, which is a gap. A node that ends says the last number as well: if all
// has come, its leaving is no gap.
//
// A link is for one run of either node. Frames name both runs; those for an earlier run are ignored.
//
// # Bounds
//
// What waits to be sent to a node is bounded, what was received from a node and waits for the Handler
// is, and so are the requests of one node that are being answered. Above the bounds messages are
// dropped, which is a gap, and requests are refused.
package link

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/prometheus/client_golang/prometheus"
)

// Network carries frames, which it may lose, but not change or double. Frames of one sender to one
// receiver come in the order in which they were sent.
type Network interface {
	// Open begins to call receive for each frame that is sent to self or to all, except its own. Frames
	// of different senders may come at the same time. receive owns the frame, and returns soon.
	Open(ctx context.Context, self string, receive func(frame []byte)) error

	// Send sends a frame to one node, which need not be there. It may wait for a slow network until
	// Close. The frame is the caller's again when it returns. An error means that the frame is lost.
	Send(to string, frame []byte) error

	// Broadcast sends a frame to all other nodes, and is otherwise like Send.
	Broadcast(frame []byte) error

	// Close ends the network. It waits for calls of receive, has Send and Broadcast return, and may be
	// called without Open, and again.
	Close()
}

// Reacher is a Network that may know that a node has gone before the node has been silent for long.
type Reacher interface {
	// Reaches reports whether a frame to the node could arrive now. It does not wait. A Network that does not know says true.
	Reaches(to string) bool
}

// Times of the links. They are the same for all nodes of a cluster.
const (
	Beat    = time.Second     // between two beats
	Silence = 4 * time.Second // after which a node is out of the view

	// unreached is the silence after which a node is out that the network does not reach. A connection that broke
	// is there again in less.
	unreached = 1500 * time.Millisecond

	forget   = time.Hour              // after which nothing is known any more of a node that is out
	changes  = 100 * time.Millisecond // between two beats of a node that changes
	goodbye  = time.Second            // for which Close waits for a network or a Handler that is stuck
	waitMost = 10 * time.Second       // for the answer to a request
)

// Bounds of a node.
const (
	sendBytes    = 16 << 20 // that wait to be sent to one node
	sendAllBytes = 64 << 20 // that wait to be sent
	takeBytes    = 16 << 20 // of one sender that wait for the Handler
	answers      = 4096     // requests of one node that are being answered
	strangers    = 4096     // nodes never heard of that somebody sends to
	perItem      = 256      // bytes that a waiting message counts for besides its body
)

// Options are what a Node is made of.
type Options struct {
	Self    bus.Node // what it says of itself; Run and Protocol too
	Network Network  // the Node's own: it opens and closes it

	Metrics prometheus.Registerer // nil: none
	Logger  *slog.Logger          // nil: none
}

// Node is a bus.Bus over a Network.
type Node struct {
	network Network
	handler *bus.Handler // set by Start
	metrics *metrics
	log     *slog.Logger
	name    string
	run     uint64
	view    atomic.Pointer[bus.View]
	ctx     context.Context // of requests that are being answered
	cancel  context.CancelFunc
	changed chan struct{}  // of one place: Update has changed something
	work    sync.WaitGroup // goroutines
	leave   sync.Once

	mu      sync.Mutex
	self    bus.Node
	leaving bool          // Close has begun: nothing is received any more
	quiet   chan struct{} // closed when, while leaving, the Handler has everything and the queue is empty
	closed  bool
	peers   map[string]*peer
	missed  map[string]struct{} // names never heard of to which something was sent
	links   uint64              // begun so far
	told    *bus.View           // the newest one that Changed is told of, or is to be told of
	telling bool                // a goroutine calls Changed
	stale   bool                // the view lacks a change of loads
	warned  bool                // of another process of this name

	queue      []*outgoing // to be sent, in this order
	queueBytes int
	sending    bool          // a goroutine empties the queue
	sent       chan struct{} // closed when it ends, while it runs

	requests  uint64 // asked so far
	waiting   map[uint64]*asked
	answering map[answerID]context.CancelFunc
}

var _ bus.Bus = (*Node)(nil)

// peer is another node. Its fields are guarded by Node.mu.
type peer struct {
	name  string
	node  bus.Node // as it told last; Run is 0 until a beat has come
	in    bool     // the view has it
	met   bool     // the view had it before
	heard time.Time
	run   uint64 // the newest one of which a frame came

	theirs uint64 // the link from there on which numbers come
	next   uint64 // the number that comes next

	link       uint64 // the link to it, 0: none yet
	last       uint64 // the last number used on it
	queueBytes int    // of it that wait to be sent

	arrived      []arrival // wait for the Handler
	arrivedBytes int
	taking       bool // a goroutine calls the Handler
	answering    int  // its requests that are being answered
}

// arrival is what the Handler is to be called with: a message, or a gap.
type arrival struct {
	gap  bool
	kind bus.Kind
	body []byte
}

// New returns a node that has not started. It has the network closed if it is never started and closed.
func New(o Options) (*Node, error) {
	if err := bus.CheckName("node", o.Self.Name); err != nil {
		return nil, err
	}
	if err := bus.CheckName("site", o.Self.Site); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		network: ofVersion(o.Network), log: o.Logger, name: o.Self.Name, run: o.Self.Run, self: o.Self,
		metrics: newMetrics(o.Metrics), changed: make(chan struct{}, 1),
		peers: map[string]*peer{}, missed: map[string]struct{}{},
		waiting: map[uint64]*asked{}, answering: map[answerID]context.CancelFunc{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.view.Store(&bus.View{Nodes: []bus.Node{o.Self}})
	return n, nil
}

// Self implements bus.Bus.
func (n *Node) Self() string { return n.name }

// View implements bus.Bus.
func (n *Node) View() *bus.View { return n.view.Load() }

// Start implements bus.Bus. The functions of Changed have been called once when it returns.
func (n *Node) Start(ctx context.Context, h *bus.Handler) error {
	n.mu.Lock()
	n.handler, n.told = h, n.View()
	n.mu.Unlock()
	for _, changed := range h.Changed {
		changed(n.told)
	}
	if err := n.network.Open(ctx, n.name, n.receive); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return pim.Errorf(pim.KindUnavailable, "the bus is closed")
	}
	n.metrics.members.Set(1)
	n.sendBeat(nil)
	n.work.Go(n.keepTime)
	n.saysMore()
	return nil
}

// Update implements bus.Bus.
func (n *Node) Update(change func(*bus.Node)) {
	n.mu.Lock()
	next := n.self
	change(&next)
	next.Name, next.Run, next.Protocol = n.self.Name, n.self.Run, n.self.Protocol
	before := n.self
	n.self = next
	switch tell := differ(&before, &next); {
	case tell:
		n.seeChange(true)
		select {
		case n.changed <- struct{}{}:
		default:
		}
	case before != next: // a load changes all the time, and goes with the next beat
		n.seeChange(false)
	}
	n.mu.Unlock()
}

// Close implements bus.Bus. What has arrived goes to the Handler before, and what waits to be sent, also by
// the Handler, is sent, as far as that takes no longer than goodbye. It may be called again.
func (n *Node) Close() {
	n.leave.Do(func() {
		n.finish()
		n.end()
	})
	n.work.Wait()
}

// finish has done what is under way.
func (n *Node) finish() {
	n.mu.Lock()
	n.leaving, n.quiet = true, make(chan struct{})
	quiet := n.quiet
	n.rest()
	n.mu.Unlock()
	stuck := time.NewTimer(goodbye)
	defer stuck.Stop()
	select {
	case <-quiet:
	case <-stuck.C:
	}
}

// rest notes that something has ended that Close waits for. n.mu is held.
func (n *Node) rest() {
	if n.quiet == nil || n.sending {
		return
	}
	for _, p := range n.peers {
		if p.taking {
			return
		}
	}
	close(n.quiet)
	n.quiet = nil
}

// end tells the others, and ends everything.
func (n *Node) end() {
	n.mu.Lock()
	n.closed = true
	for _, out := range n.queue {
		n.unqueue(out)
	}
	n.queue = n.queue[:0]
	for _, p := range n.peers { // to each alone, since what goes to all may overtake the messages before it
		n.push(&outgoing{to: p, head: head{kind: frameLeave, toRun: p.run, link: p.link, number: p.last}, frame: make([]byte, headRoom)})
	}
	for id := range n.waiting {
		n.settle(id, nil, errClosed())
	}
	sent := n.sent
	n.mu.Unlock()
	n.cancel()
	if sent != nil {
		stuck := time.NewTimer(goodbye)
		select {
		case <-sent:
		case <-stuck.C:
		}
		stuck.Stop()
	}
	n.network.Close()
}

// Vanish ends the node as Close does, but without a word to the others, as if its process had been
// killed. It is for tests.
func (n *Node) Vanish() {
	n.network.Close()
	n.leave.Do(n.end)
	n.work.Wait()
}

func errClosed() error { return pim.Errorf(pim.KindUnavailable, "the bus is closed") }

// keepTime sends beats and marks, and sees who is silent.
func (n *Node) keepTime() {
	tick := time.NewTicker(Beat)
	defer tick.Stop()
	last := time.Now()
	var pause <-chan time.Time // while it runs, no change is told
	var changed bool
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.changed:
			changed = true
		case <-pause:
			pause = nil
		case <-tick.C:
			now := time.Now()
			late := now.Sub(last) - Beat
			last = now
			n.beat(now, late)
			changed, pause = false, nil
		}
		if changed && pause == nil {
			n.mu.Lock()
			n.sendBeat(nil)
			n.mu.Unlock()
			changed, pause = false, time.After(changes)
		}
	}
}

// beat is what happens once a second. late is by how much the second was longer.
func (n *Node) beat(now time.Time, late time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.sendBeat(nil)
	for _, p := range n.peers {
		if late >= Beat {
			p.heard = p.heard.Add(late)
		}
		switch silent := now.Sub(p.heard); {
		case p.in && silent >= Silence:
			n.lose(p, "is silent, and taken for gone")
		case p.in && silent >= unreached && !n.reaches(p.name):
			n.lose(p, "is not reached, and taken for gone")
		case p.in:
			n.push(&outgoing{to: p, head: head{kind: frameMark, toRun: p.run, link: p.link, number: p.last}, frame: make([]byte, headRoom)})
		case silent >= forget && !p.taking && p.answering == 0:
			delete(n.peers, p.name)
		}
	}
	if n.stale {
		n.seeChange(false)
		n.showView()
	}
}

// reaches reports whether the network may reach the node of that name.
func (n *Node) reaches(name string) bool {
	r, ok := n.network.(Reacher)
	return !ok || r.Reaches(name)
}

// differ reports whether two Nodes differ in more than their load.
func differ(a, b *bus.Node) bool {
	x, y := *a, *b
	x.Load, y.Load = bus.Load{}, bus.Load{}
	return x != y
}

// seeChange makes a new view, at once if others are told of it, else with the next beat, since loads
// change all the time. n.mu is held.
func (n *Node) seeChange(tell bool) {
	if !tell {
		n.stale = true
		return
	}
	view := n.showView()
	n.told = view
	if n.telling || n.closed || n.handler == nil { // Start tells the first view
		return
	}
	n.telling = true
	n.work.Go(n.tell)
}

// showView makes the view anew. n.mu is held.
func (n *Node) showView() *bus.View {
	n.stale = false
	nodes := make([]bus.Node, 0, len(n.peers)+1)
	nodes = append(nodes, n.self)
	for _, p := range n.peers {
		if p.in {
			nodes = append(nodes, p.node)
		}
	}
	slices.SortFunc(nodes, func(a, b bus.Node) int { return strings.Compare(a.Name, b.Name) })
	view := &bus.View{Nodes: nodes}
	n.view.Store(view)
	n.metrics.members.Set(float64(len(nodes)))
	return view
}

// tell calls Changed with the newest view until that has been told.
func (n *Node) tell() {
	for {
		n.mu.Lock()
		view := n.told
		n.mu.Unlock()
		for _, changed := range n.handler.Changed {
			changed(view)
		}
		n.mu.Lock()
		if view == n.told || n.closed {
			n.telling = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
	}
}
