package server

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home"
	"github.com/pim-im/pim/route"
)

// cluster is what one of several nodes has between its gateway and its writers, and between both and those of
// the other nodes.
type cluster struct {
	bus    bus.Bus
	router *route.Router
	home   *home.Home
	clocks *peerClocks
	answer func(ctx context.Context, from string, body []byte) ([]byte, error) // of bus.KindStatus
	settle time.Duration                                                       // from the bus's start until the node serves

	mu       sync.Mutex
	starting bool // guarded by mu, as are the next two: each is a reason to drain
	ordered  bool // by order
	stopping bool

	served   bool            // it has begun to serve
	draining time.Time       // when the others were told that this node stops
	hurry    <-chan struct{} // closed when Shutdown waits no longer
}

// linger is how long others are told at least that a node drains, before it stops to be a home: two
// of the words that nodes say to each other once a second, and some time to heed them.
const linger = 2500 * time.Millisecond

// joinCluster puts a bus between sessions and the writers that writers makes. The gateway's requests go to
// the router that it returns.
func (s *Server) joinCluster(b bus.Bus, settle time.Duration, sessions *gateway.Sessions, writers func(conv.Outlet) route.Writer) *cluster {
	c := &cluster{bus: b, settle: settle, answer: s.answerStatus}
	c.clocks = newPeerClocks(b, s.clock, s.metrics, s.log)
	c.home = home.New(home.Options{
		Bus: b, Sessions: sessions, Pushed: func(id pim.ConversationID, entries []conv.Encoded) { c.router.Pushed(id, entries) }, Connections: s.config.UserConnections, Registerer: s.metrics, Logger: s.log,
	})
	c.router = route.New(route.Options{
		Bus: b, Gateway: sessions, Home: c.home, Writers: writers, Metrics: route.NewMetrics(s.metrics),
	})
	return c
}

// start has the node join the others, and returns when it has heard of those that it can reach, and what time it is. Until then
// it says that it drains: before it knows the others, it must not be given anything to write, nor be
// taken for anybody's home. Meanwhile it loads the busy conversations that it will write.
func (c *cluster) start(ctx context.Context) error {
	h := new(bus.Handler)
	c.router.Handle(h)
	c.home.Handle(h)
	h.Answer[bus.KindStatus] = c.answer
	c.drains(&c.starting, c.settle > 0)
	if err := c.bus.Start(ctx, h); err != nil {
		return err
	}
	c.clocks.start()
	if c.settle == 0 {
		c.served = true
		return nil
	}
	settling, cancel := context.WithTimeout(ctx, c.settle)
	defer cancel()
	c.router.WarmUp(settling)
	c.clocks.await(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	c.drains(&c.starting, false)
	c.served = true
	return nil
}

// handOverWithin is how long a node that stops waits, at most, until the others have loaded what they take over from it.
const handOverWithin = time.Second

// leaveSoon tells the other nodes that this one is about to stop: they load the busy conversations of this node first, and then
// give it nothing new to write, and take over what it has. ctx is the shutdown's.
func (c *cluster) leaveSoon(ctx context.Context) {
	if c.served {
		c.handOver(ctx)
	}
	c.drains(&c.stopping, true)
	c.draining, c.hurry = time.Now(), ctx.Done()
}

// handOver has the other nodes load the busy conversations that they take over.
func (c *cluster) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverWithin)
	defer cancel()
	c.router.HandOver(ctx)
}

// drains sets one of the reasons why other nodes are to give this one nothing, and tells them.
func (c *cluster) drains(reason *bool, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*reason = is
	does := c.starting || c.ordered || c.stopping
	c.bus.Update(func(n *bus.Node) { n.Draining = does })
}

// order has the node drain until it is told otherwise, or starts again: the others take over what it has, and /readyz
// sends no new connections to it. Those that it has are sent away by keepTelling, bit by bit.
func (c *cluster) order(ctx context.Context, drain bool) {
	if drain && !c.isOrdered() {
		c.handOver(ctx)
	}
	c.drains(&c.ordered, drain)
}

// isOrdered reports whether the node drains by order.
func (c *cluster) isOrdered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ordered
}

// leave ends what goes to other nodes and comes from them. The writers have ended. Without a cluster it does
// nothing, and neither does close.
func (c *cluster) leave() {
	if c != nil {
		c.clocks.close()
		c.router.Close()
		c.linger()
		c.home.CloseSooner(c.hurry)
	}
}

// linger waits until all others know that this node is nobody's home any more: what they send it later is
// lost.
func (c *cluster) linger() {
	if !c.served || len(c.bus.View().Nodes) < 2 {
		return
	}
	t := time.NewTimer(time.Until(c.draining.Add(min(c.settle, linger))))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.hurry:
	}
}

// close leaves the other nodes.
func (c *cluster) close() {
	if c != nil {
		c.bus.Close()
	}
}
