package route

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// world is a cluster in virtual time: nodes over one store, each with a gateway that only keeps what
// it is told, a Router and the writers.
type world struct {
	rng     *rand.Rand
	network *bustest.Network
	store   store.Store
	nodes   []*node
	group   pim.ConversationID // "": there is none
	wants   []*want
	variant variant
	joining bool // nodes that are opened drain at first

	mu    sync.Mutex // guards what answers change
	wrong []string
}

// variant says how the nodes of a world are broken.
type variant struct {
	patient bool                          // no Router asks again by itself
	bus     func(bus.Bus) bus.Bus         // between a Router and its bus
	outlet  func(conv.Outlet) conv.Outlet // between a Router and its gateway
}

// node is one life of a node.
type node struct {
	*Router
	world   *world
	name    string
	bus     bus.Bus
	writers *conv.Writers
	counts  *conv.Metrics
	dead    bool // guarded by world.mu
}

var users = []pim.UserID{"alice", "bob", "carol", "dave"}

// want is what a user wants, whatever number of times it is sent.
type want struct {
	conv.Request
	trips []*trip
	seq   pim.Seq // of the first answer that accepted it
	final error   // the first refusal that is not to be sent again
}

// trip is one transmission of a want, to one node.
type trip struct {
	*want
	node    *node
	answers int
	err     error
	at      time.Time // of the answer
}

func newWorld(seed uint64, names []string, v variant) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), network: bustest.NewNetwork(), variant: v}
	w.network.Log(slog.New(slog.DiscardHandler))
	w.store = storetest.Loose(storetest.NewMemory(), seed)
	for i, name := range names {
		w.nodes = append(w.nodes, nil)
		w.open(i, name, uint32(1+w.rng.IntN(3)), bus.AllRoles)
	}
	time.Sleep(5 * time.Second) // all see all
	for i, u := range users {   // so that there is something to read
		for _, o := range users[i:] {
			x := &want{Request: conv.Request{
				Conversation: pim.Direct(u, o), Sender: u, Device: "phone", Kind: pim.EntryMessage,
				ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()),
			}}
			w.wants = append(w.wants, x)
			w.send(w.nodes[0], x)
		}
	}
	time.Sleep(time.Second)
	return w
}

// makeGroup makes a group of all users.
func (w *world) makeGroup() {
	x := &want{Request: conv.Request{
		Sender: users[0], Device: "phone", Kind: pim.EntryCreate, Members: users[1:],
		ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()),
	}}
	w.wants = append(w.wants, x)
	w.send(w.nodes[0], x)
	time.Sleep(time.Second)
	w.group = pim.NewGroup(x.Sender, x.ClientID)
}

// open begins a life of the i-th node.
func (w *world) open(i int, name string, weight uint32, roles bus.Role) {
	n := &node{world: w, name: name, bus: w.network.Join(bus.Node{Name: name, Weight: weight, Roles: roles, Draining: w.joining}), counts: conv.NewMetrics(nil)}
	b, outlet := n.bus, conv.Outlet(n)
	if w.variant.bus != nil {
		b = w.variant.bus(b)
	}
	if w.variant.outlet != nil {
		outlet = w.variant.outlet(outlet)
	}
	o := Options{Bus: b, Gateway: outlet, Home: discard{}}
	if roles.Has(bus.RoleWriter) {
		o.Writers = func(outlet conv.Outlet) Writer {
			n.writers = conv.New(w.store, conv.Options{Outlet: outlet, Shards: 2, Metrics: n.counts, Logger: slog.New(slog.DiscardHandler)})
			return n.writers
		}
	}
	n.Router = New(o)
	n.window = []int64{1, 2000, laneWindow}[w.rng.IntN(3)] // 1: one request at a time
	if w.variant.patient {
		n.ticking.Store(true)
	}
	h := new(bus.Handler)
	n.Handle(h)
	if err := n.bus.Start(context.Background(), h); err != nil {
		panic(err)
	}
	w.nodes[i] = n
}

// Deliver implements conv.Outlet.
func (n *node) Deliver(answers []conv.Answer, _ []conv.Published) {
	w := n.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range answers {
		t := a.Request.Origin.(*trip)
		if n.dead {
			continue
		}
		switch t.answers++; {
		case t.answers > 1:
			w.wrongf("%s is answered %d times", t, t.answers)
		case t.node != n:
			w.wrongf("%s is answered at %s", t, n.name)
		case a.Request.ClientID != t.ClientID:
			w.wrongf("%s gets the answer to %s", t, a.Request.ClientID)
		}
		t.err, t.at = a.Err, time.Now()
		if a.Err != nil && !pim.KindOf(a.Err).Retryable() && t.final == nil {
			t.final = a.Err
		}
		switch {
		case a.Err != nil:
		case t.seq == 0:
			t.seq = a.Seq
		case t.seq != a.Seq:
			w.wrongf("%s: the first answer is seq %d, a later one %d", t, t.seq, a.Seq)
		}
		if t.Kind == pim.EntryCreate && t.err == nil && a.Request.Conversation != pim.NewGroup(t.Sender, t.ClientID) {
			w.wrongf("%s: the group is %s", t, a.Request.Conversation)
		}
	}
}

func (w *world) wrongf(format string, args ...any) {
	if len(w.wrong) < 10 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

func (t *trip) String() string {
	return fmt.Sprintf("the %s %q of %s in %s, to %s for the %d. time", t.Kind, t.Payload, t.Sender, t.Conversation, t.node.name, len(t.trips))
}

// send sends wants to a node, which answers later.
func (w *world) send(n *node, some ...*want) {
	var requests []*conv.Request
	for _, x := range some {
		t := &trip{want: x, node: n}
		x.trips = append(x.trips, t)
		r := x.Request
		r.Attempt, r.Origin = uint32(len(x.trips)), t
		r.Members, r.Mentions = slices.Clone(r.Members), slices.Clone(r.Mentions)
		requests = append(requests, &r)
	}
	n.Submit(requests)
}

// new returns something that a user wants. Outside the group it is sure to be accepted in the end.
func (w *world) new(u pim.UserID) *want {
	x := w.any(u)
	w.wants = append(w.wants, x)
	return x
}

func (w *world) any(u pim.UserID) *want {
	x := &want{Request: conv.Request{
		Sender: u, Device: "phone", Kind: pim.EntryMessage,
		ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()), Payload: fmt.Append(nil, len(w.wants)),
	}}
	if w.group != "" && w.rng.IntN(3) == 0 { // users come and go, so some of this is refused
		x.Conversation = w.group
		switch w.rng.IntN(4) {
		case 0:
			x.Kind, x.Members, x.Payload = pim.EntryLeave, []pim.UserID{u}, nil
		case 1:
			x.Kind, x.Members, x.Payload = pim.EntryJoin, []pim.UserID{users[w.rng.IntN(len(users))]}, nil
		}
		return x
	}
	switch w.rng.IntN(12) {
	case 0:
		x.Kind, x.Members = pim.EntryCreate, []pim.UserID{users[w.rng.IntN(len(users))]}
	case 1:
		c := pim.Command{Kind: pim.CommandContact, Subject: "erin", Value: x.Payload}
		x.Kind, x.Conversation, x.Payload = pim.EntryCommand, pim.Own(u), wire.AppendCommand(nil, &c)
	case 2:
		c := pim.Command{Kind: pim.CommandRead, Subject: string(pim.Direct(u, "bob")), Seq: 1}
		x.Kind, x.Conversation, x.Payload = pim.EntryCommand, pim.Own(u), wire.AppendCommand(nil, &c)
	default:
		x.Conversation = pim.Direct(u, users[w.rng.IntN(len(users))])
	}
	return x
}

// kill ends a node's life without a word.
func (w *world) kill(n *node) {
	w.mu.Lock()
	n.dead = true
	w.mu.Unlock()
	w.network.Kill(n.name)
	if n.writers != nil {
		n.writers.Close()
	}
	n.Close()
}

// close stops a node in order.
func (n *node) close() {
	if n.writers != nil {
		n.writers.Close()
	}
	n.Close()
	n.bus.Close()
}

// settle ends all faults, and has everything sent again until it is accepted, as clients do.
func (w *world) settle() {
	w.network.Heal()
	w.network.Delay(0)
	time.Sleep(30 * time.Second)
	for range 10 {
		synctest.Wait()
		var open []*want
		w.mu.Lock()
		for _, x := range w.wants {
			if x.seq == 0 && x.final == nil {
				open = append(open, x)
			}
		}
		w.mu.Unlock()
		if len(open) == 0 {
			break
		}
		for _, x := range open {
			w.send(w.nodes[w.rng.IntN(len(w.nodes))], x)
		}
		time.Sleep(20 * time.Second)
	}
}

// check says what is wrong at the end: of each transmission to a node that lives, of each want, of the logs.
func (w *world) check() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	logs := make(map[pim.ConversationID]map[pim.ClientMessageID]pim.Seq)
	for _, x := range w.wants {
		for _, t := range x.trips {
			if t.answers == 0 && !t.node.dead {
				w.wrongf("%s got no answer", t)
			}
		}
		if x.seq == 0 && (x.final == nil || x.Conversation != w.group) {
			w.wrongf("%s was never accepted: %v", x.trips[0], x.trips[len(x.trips)-1].err)
			continue
		}
		c := pim.ConversationID(placed(&x.Request))
		if logs[c] == nil {
			log, err := readLog(w.store, c)
			if err != nil {
				w.wrongf("%v", err)
			}
			logs[c] = log
		}
		switch seq := logs[c][x.ClientID]; {
		case seq != 0 && x.final != nil:
			w.wrongf("%s stands at seq %d, and was refused: %v", x.trips[0], seq, x.final)
		case seq != x.seq:
			w.wrongf("%s stands at seq %d, and the answer was %d", x.trips[0], seq, x.seq)
		}
	}
	for _, n := range w.nodes {
		if waiting := n.waiting.Load(); waiting != 0 || n.Router.bytes.Load() != 0 {
			w.wrongf("%s: %d requests of %d bytes wait at the end", n.name, waiting, n.Router.bytes.Load())
		}
	}
	return w.wrong
}

// readLog returns where each client message ID stands in a log, or why the log is wrong.
func readLog(s store.Store, c pim.ConversationID) (map[pim.ClientMessageID]pim.Seq, error) {
	log := make(map[pim.ClientMessageID]pim.Seq)
	for next := pim.Seq(1); ; {
		records, err := store.ReadLog(context.Background(), s, inbox.Entries(c), next, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
		if err != nil || len(records) == 0 {
			return log, err
		}
		for _, data := range records {
			e, err := wire.ParseEntry(c, bytes.Clone(data))
			if err != nil {
				return log, err
			}
			if e.Seq != next {
				return log, fmt.Errorf("%s: seq %d where %d belongs", c, e.Seq, next)
			}
			if at := log[e.ClientID]; at != 0 {
				return log, fmt.Errorf("%s: client message ID %s stands at %d and at %d", c, e.ClientID, at, e.Seq)
			}
			log[e.ClientID] = next
			next++
		}
	}
}

// inOrder says what one user's connection sent to one conversation in another order than it was
// written, without a failure in between.
func (w *world) inOrder() (wrong []string) {
	type stream struct {
		conversation pim.ConversationID
		sender       pim.UserID
	}
	last := make(map[stream]*want)
	for _, x := range w.wants {
		s := stream{x.Conversation, x.Sender}
		if before := last[s]; before != nil && x.Kind != pim.EntryCreate && cmp.Compare(before.seq, x.seq) >= 0 {
			wrong = append(wrong, fmt.Sprintf("%s has seq %d, and the one before %d", x.trips[0], x.seq, before.seq))
		}
		last[s] = x
	}
	return wrong
}
