package home

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home/homepb"
	"github.com/pim-im/pim/placement"
	"github.com/prometheus/client_golang/prometheus"
)

// Settle is how long after Bus.Start a node has heard of all others that it can reach. Until then it should
// say that it drains, so that nobody takes it for a home or a writer, and its gateway should take no
// connections: a node that sees a part of the others only takes other nodes for homes than they do. A
// device that connects earlier is told to sync when the time is over.
const Settle = 3 * time.Second

const (
	// grace is for how long after a change of the view a home keeps devices whose users have another home
	// now, and for how long it remembers for which users it got pushes that it could not pass on. Views
	// of two nodes differ for a few seconds.
	grace = 30 * time.Second

	// patience is how long a gateway waits for a home. replacement is how long the home waits, within that
	// time, for the end of a replaced connection: its gateway may be dead, and still in the view.
	patience    = 2 * time.Second
	replacement = time.Second

	// hurried is for how long a home that closes waits for each of two answers when there is no time left.
	hurried = 500 * time.Millisecond

	// maxReplacing is how many connections are replaced at a time.
	maxReplacing = 256

	// again is how long after a failure something is tried again, and how far apart a home tells
	// the same gateway at least that its devices are behind.
	again = time.Second
)

// Sessions are the connections of this node; see gateway.Sessions.
type Sessions interface {
	Deliver([]conv.Answer, []conv.Published)
	Behind(users []pim.UserID) (told int)
	Replace(ctx context.Context, user pim.UserID, device pim.DeviceID, id uint64) (found bool)
	Hint(gateway.Hint)
	DropTyping(n int)
}

// Options are what a Home works with.
type Options struct {
	Bus      bus.Bus
	Sessions Sessions
	// Pushed, if not nil, is told of entries that came from other nodes and that devices of this node have sent, before these
	// are pushed what comes after them. When it returns, the entries are the Home's again. See route.Router.Pushed.
	Pushed      func(pim.ConversationID, []conv.Encoded)
	Connections int                   // of one user on all nodes, each of another device; 0: any number
	Devices     int                   // that this home knows, at most; 0: 4,194,304
	Registerer  prometheus.Registerer // nil: the metrics are not registered
	Logger      *slog.Logger          // nil: slog.Default
}

// Home is one node's part in bringing pushes to devices. It implements gateway.Homes. All methods may
// be called concurrently.
type Home struct {
	bus         bus.Bus
	sessions    Sessions
	pushed      func(pim.ConversationID, []conv.Encoded) // nil: nobody is told
	connections int
	log         *slog.Logger
	metrics     *metrics
	begun       time.Time
	self        string

	directory *directory
	links     *links
	asked     asked
	marker    marker
	strays    strays // this home knew no device of the user
	partial   strays // it knew some
	looks     looks

	cluster  atomic.Pointer[cluster]
	suspect  atomic.Int64 // when something was lost last that may have been for this home, by mono; 0: never
	wrote    atomic.Bool  // it has had pushes to pass on, as a writer or as a home
	homeless atomic.Bool  // it has had pushes while no node was a home, and has told nobody yet
	unseen   atomic.Bool  // it has met a node that was a home before, and not told its own devices yet
	known    atomic.Bool  // it has had a device, as a home or as a gateway
	ends     atomic.Bool  // EndsSoon was called

	mu      sync.Mutex               // guards the fields below; no shard is locked while it is held
	numbers map[string]int           // of nodes, by name; they begin with 1, and are kept: names are few, and the same at each start
	gates   map[string]*gate         // by name; they are kept as well
	peers   map[string]*peer         // by name, those of the view
	left    map[string]uint64        // runs of nodes that have left the view
	wanted  map[string]time.Duration // gateways that must announce all their devices, and when they are to be asked
	ended   map[*gate]uint32         // gateways that have named all their devices, and gate.told then: the keeper forgets the others
	warned  time.Duration            // when gateways were told last that their devices are behind
	warn    bool                     // they must be told again

	replacing chan struct{} // has one for each connection that is being replaced
	wake      chan struct{} // capacity 1: the keeper has something to do
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup
	closing   bool // guarded by mu: nothing more is started
}

// node is the name of a node, and a small number that this node has given it.
type node struct {
	name   string
	number int
}

// cluster is what follows from a view. It is never changed.
type cluster struct {
	homes   *placement.Table
	earlier []earlier        // tables that were in force less than grace ago, and maybe others
	peers   map[string]*peer // of the nodes that are homes
	alone   bool             // this node is the only home
}

// earlier is a table that named other homes than the one after it.
type earlier struct {
	homes     *placement.Table
	until     time.Duration // by Home.mono
	forgotten bool          // it stands for tables that are not remembered: any node may have been a home
}

// maxEarlier is how many earlier tables are remembered.
const maxEarlier = 16

// New returns a Home. Its Handle must be called before Bus.Start, and Close after the writers have ended and
// before Bus.Close.
func New(o Options) *Home {
	h := &Home{
		bus: o.Bus, sessions: o.Sessions, pushed: o.Pushed, connections: o.Connections, log: o.Logger, begun: time.Now(), self: o.Bus.Self(),
		links: newLinks(), strays: strays{span: grace}, partial: strays{span: grace / 4}, numbers: make(map[string]int), gates: make(map[string]*gate), peers: make(map[string]*peer), left: make(map[string]uint64),
		wanted: make(map[string]time.Duration), ended: make(map[*gate]uint32), wake: make(chan struct{}, 1), replacing: make(chan struct{}, maxReplacing),
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	if o.Devices == 0 {
		o.Devices = 1 << 22
	}
	h.directory = newDirectory(o.Devices, h.comesOrGoes)
	h.metrics = newMetrics(o.Registerer, h.directory, &h.looks)
	h.cluster.Store(&cluster{homes: placement.New(new(bus.View), bus.RoleHome)})
	h.looks.make(h.cluster.Load())
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Handle sets the functions of handler that are the Home's, and begins what the Home does by itself. It is called
// once, before Bus.Start.
func (h *Home) Handle(handler *bus.Handler) {
	if handler.Receive == nil {
		handler.Receive = make(map[bus.Kind]func(string, []byte))
	}
	if handler.Answer == nil {
		handler.Answer = make(map[bus.Kind]func(context.Context, string, []byte) ([]byte, error))
	}
	handler.Receive[bus.KindPublish] = h.receivePublish
	handler.Receive[bus.KindPush] = h.receivePush
	handler.Receive[bus.KindJoin] = h.receiveJoin
	handler.Receive[bus.KindLeave] = h.receiveLeave
	handler.Receive[bus.KindAnnounce] = h.receiveAnnounce
	handler.Receive[bus.KindJoined] = h.receiveJoined
	handler.Receive[bus.KindBehind] = h.receiveBehind
	handler.Receive[bus.KindHint] = h.receiveHint
	handler.Answer[bus.KindReplace] = h.answerReplace
	handler.Gap = append(handler.Gap, h.gap)
	handler.Changed = append(handler.Changed, h.changed)
	h.start(h.keep)
	h.start(h.hints)
}

// EndsSoon says that all connections of this node are about to end, and the node after them. Their homes
// are not told of each: that may be more than the bus takes at once. They forget the devices when
// the node leaves their view, and have one that connects elsewhere before that replaced here.
func (h *Home) EndsSoon() { h.ends.Store(true) }

// Close ends what the Home does, and tells the other nodes that this one has said everything: they need
// not suspect that pushes are lost when it leaves them. It first asks each a question. Messages come in their order, so when the
// answer is here, all pushes that the node sent before are too, or a gap has shown. A node that does not answer is told nothing, and will suspect.
// Close waits for the answer to the question for patience at most, and then half of it for the farewell to be answered, so that a node that is slow
// but lives has heard it before the bus ends. The node should have been draining for some seconds, so that nobody takes it for a home any more.
func (h *Home) Close() { h.CloseSooner(nil) }

// CloseSooner does what Close does, but when hurry is closed it goes on for a second at most: who has not answered by then is told
// nothing, and will suspect.
func (h *Home) CloseSooner(hurry <-chan struct{}) {
	h.mu.Lock()
	h.closing = true
	var others []string
	for name, p := range h.peers {
		if !p.self {
			others = append(others, name)
		}
	}
	h.mu.Unlock()
	h.cancel()
	h.running.Wait()
	h.mu.Lock()
	warn := h.warn
	h.mu.Unlock()
	if warn {
		h.tellBehind()
	}
	var parting sync.WaitGroup
	for _, name := range others {
		parting.Go(func() {
			if h.hears(patience, hurry, name, &homepb.Announce{}) {
				h.hears(patience/2, hurry, name, &homepb.Announce{Farewell: true})
			}
		})
	}
	parting.Wait()
}

// hears sends a node m, and reports whether it has answered within a time, and within hurried once hurry is closed.
func (h *Home) hears(within time.Duration, hurry <-chan struct{}, name string, m *homepb.Announce) bool {
	id, answer := h.asked.ask(name)
	defer h.asked.forget(id)
	m.Request = id
	if !h.send(name, bus.KindAnnounce, m) {
		return false
	}
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		select {
		case <-answer:
			return true
		case <-hurry:
			hurry = nil
			t.Reset(min(within, hurried))
		case <-t.C:
			return false
		}
	}
}

// start runs f in a goroutine that Close waits for. Once Close has begun it runs nothing and reports
// false. h.mu is not held.
func (h *Home) start(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	h.running.Go(f)
	return true
}

// mono returns the time since the Home was made.
func (h *Home) mono() time.Duration { return time.Since(h.begun) }

// fresh reports whether nobody can have missed this home yet: it has just come, or waits for the bus
// and has had nothing to do.
func (h *Home) fresh() bool {
	return h.mono() <= Settle || !h.wrote.Load() && !h.known.Load()
}

// homeOf returns the home of a user in the newest view; nil: no node is one.
func (c *cluster) homeOf(u pim.UserID) *peer {
	name, ok := c.homes.Of(string(pim.Own(u)))
	if !ok {
		return nil
	}
	return c.peers[name]
}

// linksOf returns the links whose users have a node as home, or had it less than grace ago: until then it passes
// pushes on. The node is named, since its process may be another one than the newest view says.
func (h *Home) linksOf(name string) (all []*link) {
	c, now := h.cluster.Load(), h.mono()
	h.links.each(func(k *link) {
		if k.home != nil && k.home.name == name || c.had(now, k.user, name) {
			all = append(all, k)
		}
	})
	return all
}

// had reports whether a node is the home of u, or may have been it less than grace ago.
func (c *cluster) had(now time.Duration, u pim.UserID, name string) bool {
	key := string(pim.Own(u))
	if of, _ := c.homes.Of(key); of == name {
		return true
	}
	for _, e := range c.earlier {
		if now-e.until > grace {
			continue
		}
		if of, _ := e.homes.Of(key); of == name || e.forgotten {
			return true
		}
	}
	return false
}

// changed is told of each new view. Links that are added from now on have the home that it names;
// the keeper sees to the others.
func (h *Home) changed(v *bus.View) {
	old := h.cluster.Load()
	now := &cluster{homes: old.homes.Next(v), earlier: old.earlier, peers: make(map[string]*peer)}
	if now.homes != old.homes {
		at := h.mono()
		kept := slices.DeleteFunc(slices.Clone(old.earlier), func(e earlier) bool { return at-e.until > grace })
		if kept = append(kept, earlier{homes: old.homes, until: at}); at < grace { // before this node came, the others were the homes
			rest := &bus.View{Nodes: slices.DeleteFunc(slices.Clone(v.Nodes), func(n bus.Node) bool { return n.Name == h.self })}
			kept = append(kept, earlier{homes: placement.New(rest, bus.RoleHome), until: at})
		}
		now.earlier = kept
		if n := len(now.earlier); n > maxEarlier {
			rest := earlier{homes: placement.New(new(bus.View), bus.RoleHome), until: now.earlier[n-maxEarlier].until, forgotten: true}
			now.earlier = append([]earlier{rest}, now.earlier[n-maxEarlier+1:]...)
		}
	}
	var missed []string // homes that were sent nothing, although others may have taken them for homes
	var back []string   // nodes that are there again, and may not have missed this one
	lost := false       // a home has gone that may have been sent something since it ended
	met := false        // a node has been a home before this one saw it
	h.mu.Lock()
	for name, p := range h.peers {
		if n := v.Node(name); n == nil || n.Run != p.run {
			p.gone = true
			lost = lost || old.peers[name] == p && !p.parted.Load()
			delete(h.peers, name)
			delete(h.wanted, name)
			h.left[name] = p.run
		}
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		p := h.peers[n.Name]
		if p == nil {
			p = &peer{node: h.numbered(n.Name), run: n.Run, self: n.Name == h.self, met: h.mono()}
			h.peers[n.Name] = p
			if h.left[n.Name] == n.Run {
				h.suspects()
				back = append(back, n.Name)
			}
			if !p.self {
				missed = append(missed, n.Name)
				met = met || !n.Draining && n.Roles.Has(bus.RoleHome)
			}
			delete(h.left, n.Name)
			if !p.self && n.Roles.Has(bus.RoleGateway) {
				h.wanted[n.Name] = 0 // it may have told this home of devices before it left this node's view
			}
		}
		if !n.Draining { // the farewell was that of an earlier process
			p.parted.Store(false)
		}
		if n.Roles.Has(bus.RoleHome) {
			now.peers[n.Name] = p
		}
	}
	h.mu.Unlock()
	name, ok := now.homes.Of("")
	now.alone = ok && name == h.self && now.homes.Nodes() == 1
	h.cluster.Store(now)
	if met && !h.fresh() { // it may have been sent pushes for devices of this node, which have not been announced there
		h.unseen.Store(true)
	}
	for _, name := range back { // it may know devices that have gone meanwhile
		h.announceAll(name)
	}
	if h.wrote.Load() { // looked at after Store: who has not set it yet sees the new homes
		h.tellHomes(now, missed, lost)
	}
	h.poke()
	h.looks.poke()
}

// tellHomes tells homes that pushes which this node has sent may not have reached those who should have passed
// them on: missed are nodes that were not in the view. lost says that others are missing too, since a home has gone, or
// there was none. The nodes see that a home has gone one after the other: a gateway may have told its devices to sync, and announced them to their new home, before
// this node sent its last pushes to the dead one. Only the new homes can have them told, and any may be one.
func (h *Home) tellHomes(c *cluster, missed []string, lost bool) {
	if lost {
		for name, p := range c.peers {
			if !p.self && !slices.Contains(missed, name) {
				missed = append(missed, name)
			}
		}
		h.mu.Lock()
		h.suspects()
		h.mu.Unlock()
	}
	for _, name := range missed {
		h.send(name, bus.KindBehind, &homepb.Behind{Published: true})
	}
}

// suspects notes that pushes may be lost of all devices that this home knows, or should know. The caller
// holds h.mu.
func (h *Home) suspects() {
	h.warn = true
	h.suspect.Store(int64(h.mono()) | 1)
}

// poke wakes the keeper.
func (h *Home) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// numbered returns the node of a name. The caller holds h.mu.
func (h *Home) numbered(name string) node {
	n := h.numbers[name]
	if n == 0 {
		n = len(h.numbers) + 1
		h.numbers[name] = n
	}
	return node{name, n}
}

// gate returns the gate of a node.
func (h *Home) gate(name string) *gate {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.gates[name]
	if g == nil {
		g = &gate{node: h.numbered(name)}
		h.gates[name] = g
	}
	return g
}

// keep does what follows from changes of the view and from gaps, until the Home closes.
func (h *Home) keep() {
	var done *cluster // whose links and gates are in order
	var cleared *placement.Table
	var clear <-chan time.Time // grace is over
	ripe := time.After(Settle)
	for {
		if c := h.cluster.Load(); c != done {
			h.move(c)
			h.dropGates()
			if done = c; c.homes != cleared {
				cleared, clear = c.homes, time.After(grace)
			}
		}
		h.dropUnnamed()
		if h.unseen.Swap(false) {
			h.seen(done)
		}
		if done.homes.Nodes() > 0 && h.homeless.Swap(false) {
			h.tellHomes(done, nil, true)
		}
		var retry <-chan time.Time
		if h.ask() {
			retry = time.After(again / 4)
		}
		select {
		case <-h.wake:
		case <-retry:
		case <-clear:
			clear = nil
			h.clear()
			h.dropGates()
		case <-ripe:
			h.behindAll()
		case <-h.ctx.Done():
			return
		}
	}
}

// seen follows the first sight of a home that other nodes have seen before. Pushes for the devices of this node may have been sent
// there, and the homes that this node took for theirs may have forgotten them meanwhile.
func (h *Home) seen(c *cluster) {
	h.behindAll()
	for name := range c.peers {
		h.announceAll(name)
	}
}

// dropGates forgets the devices of gateways that are not in the view.
func (h *Home) dropGates() {
	gone := make(map[*gate]bool)
	h.mu.Lock()
	for name, g := range h.gates {
		if h.peers[name] == nil && g.places.Load() > 0 {
			gone[g] = true
		}
	}
	h.mu.Unlock()
	if len(gone) > 0 {
		h.directory.retain(func(_ pim.UserID, p *place) bool { return !gone[p.gate] })
	}
}

// dropUnnamed forgets the devices that gateways have not named when they named all.
func (h *Home) dropUnnamed() {
	h.mu.Lock()
	ended := h.ended
	if len(ended) == 0 {
		h.mu.Unlock()
		return
	}
	h.ended = make(map[*gate]uint32)
	h.mu.Unlock()
	h.directory.retain(func(_ pim.UserID, p *place) bool {
		told, ok := ended[p.gate]
		return !ok || int32(p.told-told) >= 0 // it may have been named again since
	})
}

// clear forgets the devices of users who have had another home for a while.
func (h *Home) clear() {
	c := h.cluster.Load()
	h.directory.retain(func(u pim.UserID, _ *place) bool {
		p := c.homeOf(u)
		return p != nil && p.self
	})
}

// ask asks gateways for what this home may not know of them, and tells them what they may not know.
// It reports whether it is to be called again.
func (h *Home) ask() (more bool) {
	h.mu.Lock()
	now := h.mono()
	var wanted []string
	for name, at := range h.wanted {
		if now >= at {
			wanted = append(wanted, name)
			h.wanted[name] = now + again
		}
	}
	warn := h.warn && (h.warned == 0 || now-h.warned >= again)
	if warn {
		h.warn, h.warned = false, now
	}
	more = len(wanted) > 0 || h.warn
	h.mu.Unlock()
	for _, name := range wanted {
		h.send(name, bus.KindAnnounce, wantedAll)
	}
	if warn {
		h.tellBehind()
	}
	return more
}
