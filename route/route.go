package route

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/placement"
)

// Writer takes requests and answers each through its Outlet. See conv.Writers.Submit.
type Writer interface {
	Submit(requests []*conv.Request)
}

// Publisher takes the pushes of the entries that this node has written. When Publish returns,
// the slices and the bytes in them are the caller's again. It must not block on a slow receiver.
type Publisher interface {
	Publish(pushes []conv.Published)
}

// Options are what a Router needs.
type Options struct {
	Bus     bus.Bus
	Gateway conv.Outlet // takes the answers to the requests of this node's connections, and no pushes
	Home    Publisher
	// Writers makes this node's writers. Their outlet is the Router. nil: the node writes nothing.
	// If they are a Warmer as well, conversations that change hands are loaded in time, see WarmUp and HandOver.
	Writers func(conv.Outlet) Writer
	Metrics *Metrics // nil: not counted
}

// Router is one node's. It is the Writer of the node's gateway and the Outlet of the node's writers.
type Router struct {
	// Set at construction.
	bus     bus.Bus
	self    string
	gateway conv.Outlet
	home    Publisher
	local   Writer // nil: the node writes nothing
	metrics *Metrics
	life    uint64 // names this Router to other nodes
	lanes   [lanes]*lane
	window  int64 // laneWindow; less in tests

	handing sync.RWMutex // held for reading from when a request leaves the table until the gateway has its answer; see handed

	viewMu sync.Mutex
	table  *placement.Table // of the newest view; nil: there was none. viewMu guards it

	// What all lanes hold together.
	waiting atomic.Int64 // requests
	bytes   atomic.Int64 // of them, about

	ticker  *time.Timer
	ticking atomic.Bool // ticker will fire

	peersMu sync.Mutex
	peers   map[string]*peer // peersMu guards it
	slow    [slowQueues]slowQueue

	warming

	runMu   sync.Mutex
	closed  bool           // runMu guards it
	running sync.WaitGroup // goroutines of the Router; runMu guards its growing
}

const (
	answerWithin = 2 * time.Second // a node that says nothing for so long is asked again
	distrust     = 5 * time.Second // a node that was silent twice is not asked for so long
	giveUp       = 15 * time.Second
	tickEvery    = 100 * time.Millisecond
)

// New returns a Router. The caller calls Handle, and only then bus.Start.
func New(o Options) *Router {
	r := &Router{
		bus: o.Bus, self: o.Bus.Self(), gateway: o.Gateway, home: o.Home, metrics: o.Metrics,
		life: rand.Uint64(), peers: make(map[string]*peer), window: laneWindow,
	}
	if r.metrics == nil {
		r.metrics = NewMetrics(nil)
	}
	for i := range r.lanes {
		r.lanes[i] = newLane(r, uint32(i))
	}
	r.ticker = time.AfterFunc(time.Hour, r.tick)
	r.ticker.Stop()
	if o.Writers != nil {
		r.local = o.Writers(r)
	}
	r.warming = newWarming(r.local)
	return r
}

// Handle adds what the Router does with messages, gaps and views to h.
func (r *Router) Handle(h *bus.Handler) {
	if h.Receive == nil {
		h.Receive = make(map[bus.Kind]func(string, []byte))
	}
	h.Receive[bus.KindSubmit] = r.receiveSubmit
	h.Receive[bus.KindAnswer] = r.receiveAnswers
	if h.Answer == nil {
		h.Answer = make(map[bus.Kind]func(context.Context, string, []byte) ([]byte, error))
	}
	h.Answer[bus.KindWarm] = r.answerWarm
	h.Gap = append(h.Gap, r.gap)
	h.Changed = append(h.Changed, r.changed)
}

// Submit brings requests to the nodes that write their conversations. Each is answered once, through
// Options.Gateway. The Router and the writers own a request until then. Submit blocks only as
// conv.Writers.Submit does. If too much waits, the answer is of KindOverloaded.
func (r *Router) Submit(requests []*conv.Request) {
	for len(requests) > 0 {
		n := 1
		for n < len(requests) && requests[n].Sender == requests[0].Sender {
			n++
		}
		r.laneOf(requests[0].Sender).submit(requests[:n])
		requests = requests[n:]
	}
}

func (r *Router) laneOf(u pim.UserID) *lane {
	return r.lanes[xxhash.Sum64String(string(u))%lanes]
}

// Deliver takes what this node's writers have written. It implements conv.Outlet.
func (r *Router) Deliver(answers []conv.Answer, pushes []conv.Published) {
	if len(answers) > 0 {
		r.deliver(answers)
	}
	if len(pushes) > 0 {
		r.home.Publish(pushes)
	}
}

func (r *Router) deliver(answers []conv.Answer) {
	own := 0 // these requests came here straight from the gateway
	for own < len(answers) && isOwn(&answers[own]) && !isOfClock(answers[own].Err) {
		own++
	}
	if own == len(answers) {
		r.gateway.Deliver(answers, nil)
		return
	}
	r.handing.RLock()
	here := append(make([]conv.Answer, 0, len(answers)), answers[:own]...)
	var out outgoing
	for i := own; i < len(answers); i++ {
		switch from := answers[i].Request.Origin.(type) {
		case *forwarded:
			out.add(from, &answers[i])
		case *waiting:
			if a, first := from.settle(answers[i]); first {
				here = append(here, a)
			}
		default:
			if !isOfClock(answers[i].Err) || !r.laneOf(answers[i].Request.Sender).giveAway(answers[i].Request) {
				here = append(here, answers[i])
			}
		}
	}
	if len(here) > 0 {
		r.gateway.Deliver(here, nil)
	}
	r.handing.RUnlock()
	out.send()
}

func isOwn(a *conv.Answer) bool {
	switch a.Request.Origin.(type) {
	case *forwarded, *waiting:
		return false
	}
	return true
}

// isOfClock reports whether err says that the node does not write because of its clock.
func isOfClock(err error) bool { return err != nil && pim.KindOf(err) == pim.KindClockUnhealthy }

// second returns the node that is to write a conversation in place of this one, "" if there is none.
func (r *Router) second(key string) string {
	v := &bus.View{Nodes: slices.DeleteFunc(slices.Clone(r.bus.View().Nodes), func(n bus.Node) bool { return n.Name == r.self })}
	to, _ := placement.Of(v, bus.RoleWriter, key)
	return to
}

// placed returns the key by which r's writer is found.
func placed(r *conv.Request) string {
	if r.Kind == pim.EntryCreate && r.Conversation == "" {
		return string(pim.NewGroup(r.Sender, r.ClientID))
	}
	return string(r.Conversation)
}

// changed takes a new view. What waits at another node than the one to which it gives a conversation
// is sent there.
func (r *Router) changed(v *bus.View) {
	r.viewMu.Lock()
	defer r.viewMu.Unlock()
	was := r.table
	if was == nil {
		r.table = placement.New(v, bus.RoleWriter)
	} else {
		r.table = was.Next(v)
	}
	for _, l := range r.lanes {
		l.see(v, r.table)
	}
	r.forgetPeers(v)
}

// gap notes that messages from a node may have been lost: requests that it has sent, and answers to
// requests that wait for it.
func (r *Router) gap(from string) {
	r.missed(from)
	r.again(from)
}

// again sends again what waits at a node.
func (r *Router) again(node string) {
	for _, l := range r.lanes {
		l.again(node)
	}
}

// tick looks for requests that have waited too long.
func (r *Router) tick() {
	r.run(func() {
		r.ticking.Store(false)
		some := false
		for _, l := range r.lanes {
			some = l.tick(time.Now()) || some
		}
		if some {
			r.watch()
		}
	})
}

// watch has tick called soon. Something waits.
func (r *Router) watch() {
	if !r.ticking.Load() && r.ticking.CompareAndSwap(false, true) {
		r.ticker.Reset(tickEvery)
	}
}

// run calls f, unless the Router is closed. Close waits for it.
func (r *Router) run(f func()) bool {
	r.runMu.Lock()
	if r.closed {
		r.runMu.Unlock()
		return false
	}
	r.running.Add(1)
	r.runMu.Unlock()
	defer r.running.Done()
	f()
	return true
}

// start calls f in a goroutine, unless the Router is closed. Close waits for it.
func (r *Router) start(f func()) bool {
	r.runMu.Lock()
	defer r.runMu.Unlock()
	if r.closed {
		return false
	}
	r.running.Go(f)
	return true
}

func (r *Router) isClosed() bool {
	r.runMu.Lock()
	defer r.runMu.Unlock()
	return r.closed
}

// Drain waits until all requests that this node's connections submitted before, and that wait in the Router's
// table, have been answered. Those that went straight to the node's writers are not in it, see
// conv.Writers.Drain. If ctx ends first, Drain returns the error of ctx.
func (r *Router) Drain(ctx context.Context) error {
	for _, l := range r.lanes {
		select {
		case <-l.drained():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.handed()
	return nil
}

// handed waits until the gateway has the answers to all requests that have left the table.
func (r *Router) handed() {
	r.handing.Lock()
	//lint:ignore SA2001 who takes requests out of the table holds it for reading until then
	r.handing.Unlock()
}

// Close answers what waits with KindUnavailable, and so it does with what is submitted later, and waits for
// the goroutines of the Router. The caller must close the node's writers before, and the bus
// after the Router.
func (r *Router) Close() {
	r.runMu.Lock()
	r.closed = true
	r.runMu.Unlock()
	r.ticker.Stop()
	for _, l := range r.lanes {
		l.close()
	}
	r.running.Wait()
}
