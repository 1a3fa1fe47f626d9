package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/clock"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	askClocksEvery  = 5 * time.Second // give or take a fifth
	askClocks       = 8               // nodes at a time, so that a cluster of thousands costs a node no more than a small one
	askClocksWithin = 2 * time.Second
	awaitClocks     = 5 * time.Second // after the node has settled
	clockLabels     = 16              // nodes that the metric names at a time
)

// peerClocks asks other nodes what time it is, tells the node's own clock, and says whose clock is off: in the log, when that begins and
// when it ends, and as metrics. What follows from the answers is decided by clock.Peers and clock.Watch.
type peerClocks struct {
	bus bus.Bus
	own *clock.Watch
	log *slog.Logger

	mu    sync.Mutex
	peers clock.Peers          // guarded by mu
	wrong error                // why the last question that failed did; guarded by mu
	off   map[string]clock.Off // as last logged; guarded by mu

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// newPeerClocks returns peerClocks that ask when run is started. metrics may be nil.
func newPeerClocks(b bus.Bus, own *clock.Watch, metrics prometheus.Registerer, log *slog.Logger) *peerClocks {
	p := &peerClocks{bus: b, own: own, log: log}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if metrics != nil {
		metrics.MustRegister((*clockCollector)(p))
	}
	return p
}

// start begins to ask. The bus has started.
func (p *peerClocks) start() { p.running.Go(p.run) }

// close ends the asking. Without start it does nothing.
func (p *peerClocks) close() {
	p.cancel()
	p.running.Wait()
}

func (p *peerClocks) run() {
	wait := askClocksEvery / 10 // a node that starts wants to know the time before it serves
	for {
		t := time.NewTimer(wait*4/5 + rand.N(wait*2/5))
		most := askClocksEvery
		if p.own.Gate() != nil { // the node waits for the answers
			most /= 5
		}
		wait = min(2*wait, most)
		select {
		case <-t.C:
		case <-p.own.Doubts():
		case <-p.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
		p.ask()
	}
}

// await returns when the node knows the time: most of the clocks agree on one, or there are no others, or the others have not been heard
// or don't agree within awaitClocks. Then the node goes by its own clock.
func (p *peerClocks) await(ctx context.Context) {
	others := otherNodes(p.bus)
	within := awaitClocks
	if len(others) == 0 {
		within = 0
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if !p.own.Await(ctx) && len(others) > 0 {
		p.mu.Lock()
		heard, wrong := len(p.peers.Samples()), p.wrong
		p.mu.Unlock()
		p.log.Warn("this node has found no time on which most of the nodes' clocks agree: it goes by its own clock", "others", len(others), "heard", heard, "error", wrong)
	}
}

// ask asks some nodes for the time, and judges by the answers.
func (p *peerClocks) ask() {
	nodes := otherNodes(p.bus)
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	ctx, cancel := context.WithTimeout(p.ctx, askClocksWithin)
	defer cancel()
	var asked sync.WaitGroup
	for _, node := range nodes[:min(len(nodes), askClocks)] {
		asked.Go(func() {
			var a clockAnswer
			began := p.own.Mono()
			s, err := askStatus(ctx, p.bus, p.steady, node.Name, wantClock, &a)
			if err == nil {
				p.own.Hear(node.Name, s, began)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				p.wrong = fmt.Errorf("what time it is at %s: %w", node.Name, err)
				return
			}
			p.peers.Take(node.Name, s, began)
		})
	}
	asked.Wait()
	p.judge(p.bus.View())
}

// steady is the monotonic clock as a time. Samples are taken from it, since it is not set.
func (p *peerClocks) steady() time.Time { return time.Unix(0, int64(p.own.Mono())) }

// offset returns how far the node's wall clock is ahead of steady.
func (p *peerClocks) offset() time.Duration { return p.own.Now().Sub(p.steady()) }

// otherNodes returns the nodes that b sees, without its own. The slice is the caller's.
func otherNodes(b bus.Bus) []bus.Node {
	return slices.DeleteFunc(slices.Clone(b.View().Nodes), func(n bus.Node) bool { return n.Name == b.Self() })
}

// judge logs what has changed.
func (p *peerClocks) judge(v *bus.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peers.Forget(func(name string) bool { return v.Node(name) != nil }, p.own.Mono())
	off, known := make(map[string]clock.Off), p.peers.Samples()
	for _, o := range p.peers.Judge(p.offset()) {
		off[o.Node] = o
		if was, ok := p.off[o.Node]; ok && was.Sure == o.Sure {
			continue
		}
		switch {
		case o.Node == "":
			p.log.Error("this node's clock is off, by what most other nodes say: set it", "by", o.By)
		case o.Sure:
			p.log.Warn("the clock of another node is off, by what most nodes say", "node", o.Node, "by", o.By)
		default:
			p.log.Warn("the clocks of another node and of this one differ, and there are too few others that agree to say which is wrong", "node", o.Node, "by", o.By)
		}
	}
	for name := range p.off {
		_, still := off[name]
		switch _, there := known[name]; {
		case still:
		case name == "":
			p.log.Info("this node's clock is no longer off")
		case there:
			p.log.Info("the clock of another node is no longer off", "node", name)
		}
	}
	p.off = off
}

// clockCollector makes the metrics of peerClocks.
type clockCollector peerClocks

var (
	peerOffsetDesc = prometheus.NewDesc("pim_peer_clock_offset_seconds",
		"How far the clock of another node is ahead of this node's, by node: the 16 that differ most of those that were asked in the last minute.", []string{"node"}, nil)
	peersOffDesc = prometheus.NewDesc("pim_peer_clocks_off",
		"Other nodes, of those that were asked in the last minute, whose clocks are off by more than 100 ms.", nil, nil)
	selfOffDesc = prometheus.NewDesc("pim_clock_off_seconds",
		"How far this node's clock is ahead of what most nodes agree on; 0 while that is 100 ms or less, or not known.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *clockCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{peerOffsetDesc, peersOffDesc, selfOffDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *clockCollector) Collect(to chan<- prometheus.Metric) {
	type peer struct {
		name   string
		offset time.Duration
	}
	var peers []peer
	c.mu.Lock()
	self, others := c.off[""].By, len(c.off)
	if _, ok := c.off[""]; ok {
		others--
	}
	own := (*peerClocks)(c).offset()
	for name, s := range c.peers.Samples() {
		peers = append(peers, peer{name, s.Offset - own})
	}
	c.mu.Unlock()
	slices.SortFunc(peers, func(a, b peer) int {
		return cmp.Or(cmp.Compare(b.offset.Abs(), a.offset.Abs()), cmp.Compare(a.name, b.name))
	})
	for _, p := range peers[:min(len(peers), clockLabels)] {
		to <- prometheus.MustNewConstMetric(peerOffsetDesc, prometheus.GaugeValue, p.offset.Seconds(), p.name)
	}
	to <- prometheus.MustNewConstMetric(peersOffDesc, prometheus.GaugeValue, float64(others))
	to <- prometheus.MustNewConstMetric(selfOffDesc, prometheus.GaugeValue, self.Seconds())
}

// The bodies of bus.KindStatus are JSON. A request names what is wanted, and the answer's fields are those of
// the types below. Fields are only added, and unknown ones ignored, so nodes of two versions understand each other.

// want is what a request of bus.KindStatus asks for.
type want string

const (
	wantClock   want = "clock"   // a clockAnswer
	wantReport  want = "report"  // a statusAnswer
	wantDrain   want = "drain"   // that the node drains; an empty object
	wantUndrain want = "undrain" // that it no longer does; an empty object
	wantHeed    want = "heed"    // that it ends the connections of User whose tokens were revoked; a revokedAnswer
)

// statusRequest is the body of a request.
type statusRequest struct {
	Want want       `json:"want"`
	User pim.UserID `json:"user,omitempty"` // of wantHeed
}

// revokedAnswer says how many connections a node has ended.
type revokedAnswer struct {
	clockAnswer
	Ended int `json:"ended"`
}

// clockAnswer is when a request came and when its answer left, in ns since 1970 by the answering node's clock.
type clockAnswer struct {
	Came int64 `json:"came_ns"`
	Left int64 `json:"left_ns"`
}

func (a *clockAnswer) clocks() *clockAnswer { return a }

// timed is an answer from which the offset of a clock follows.
type timed interface{ clocks() *clockAnswer }

// askStatus asks a node for what w says, and fills answer. The sample is of the node's clock, compared with now.
func askStatus(ctx context.Context, b bus.Bus, now func() time.Time, node string, w want, answer timed) (clock.Sample, error) {
	return askStatusOf(ctx, b, now, node, statusRequest{Want: w}, answer)
}

// askStatusOf is askStatus for a request that says more.
func askStatusOf(ctx context.Context, b bus.Bus, now func() time.Time, node string, q statusRequest, answer timed) (clock.Sample, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return clock.Sample{}, err
	}
	asked, begun := now(), time.Now()
	body, err = b.Request(ctx, node, bus.KindStatus, body)
	took := time.Since(begun)
	if err != nil {
		return clock.Sample{}, err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return clock.Sample{}, err
	}
	a := answer.clocks()
	return clock.SampleOf(time.Duration(asked.UnixNano()), took, time.Duration(a.Came), time.Duration(a.Left)), nil
}
