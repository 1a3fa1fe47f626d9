package simcluster

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/placement"
)

// epoch is a view of the cluster, with who has what in it.
type epoch struct {
	writers, homes *placement.Table
	from           time.Duration // when it began
	heard          []time.Duration
}

// world is a run.
type world struct {
	Config
	random *rand.Rand
	now    time.Duration
	events events
	epochs []epoch // the first one has no from
	dead   int     // the node that dies; -1: none has

	index         map[string]int // of nodes, by name
	conversations []*conversation
	sent          int // messages that were sent
	answered      int

	report Report // sums, until the end
}

// event is something that happens at a time. Of two at the same time the one that was planned first comes
// first.
type event struct {
	at    time.Duration
	order int
	do    func()
}

type events struct {
	list    []event
	planned int
}

func (e *events) Len() int { return len(e.list) }
func (e *events) Less(i, j int) bool {
	a, b := &e.list[i], &e.list[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}
func (e *events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)    { e.list = append(e.list, x.(event)) }
func (e *events) Pop() any {
	last := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return last
}

// in plans do for when d has passed.
func (w *world) in(d time.Duration, do func()) {
	w.events.planned++
	heap.Push(&w.events, event{w.now + d, w.events.planned, do})
}

// Run plays c. Runs of the same Config are alike. Errors are of KindInvalid.
func Run(c Config) (Report, error) {
	if err := c.check(); err != nil {
		return Report{}, err
	}
	w := &world{Config: c, random: rand.New(rand.NewPCG(c.Seed, 0)), dead: -1, index: map[string]int{}}
	w.begin()
	for w.events.Len() > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	return w.end(), nil
}

// begin makes the nodes and the conversations, and plans the changes.
func (w *world) begin() {
	nodes := make([]bus.Node, w.Nodes)
	for i := range nodes {
		nodes[i] = bus.Node{Name: fmt.Sprintf("node-%d", i), Roles: bus.AllRoles, Weight: 1}
		w.index[nodes[i].Name] = i
	}
	joins := bus.Node{Name: "node-joins", Roles: bus.AllRoles, Weight: 1}
	w.index[joins.Name] = w.Nodes
	w.see(nodes)
	for range conversations {
		c := &conversation{world: w, key: fmt.Sprintf("g%x", w.random.Uint64()), writer: -1, queues: map[int]*queue{}}
		for range w.Members {
			c.members = append(c.members, w.user())
		}
		w.conversations = append(w.conversations, c)
		w.in(w.pause(), c.send)
	}
	length := time.Duration(w.Messages/conversations+1) * w.Every
	w.in(length/3, func() { w.dies(nodes) })
	w.in(2*length/3, func() { w.see(append(w.without(nodes, w.dead), joins)) })
}

// member is a user of a conversation.
type member struct {
	id  int
	key string // of the user's home
}

// user returns any user. Two members may be the same one in a small world, which changes nothing that
// is counted.
func (w *world) user() member {
	id := w.random.IntN(w.Users)
	return member{id, string(pim.Own(pim.UserID(fmt.Sprintf("user%d", id))))}
}

// without returns nodes but for one.
func (w *world) without(nodes []bus.Node, i int) []bus.Node {
	return append(slices.Clone(nodes[:i]), nodes[i+1:]...)
}

// pause returns the time to the next message of a conversation.
func (w *world) pause() time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(w.Every))
}

// dies has a node die: the writer of the first conversation, so that something is seen of it in every
// world.
func (w *world) dies(nodes []bus.Node) {
	w.dead = w.place(w.epochs[0].writers, w.conversations[0].key)
	w.see(w.without(nodes, w.dead))
	before, now := &w.epochs[0], &w.epochs[1]
	moved, announced, devices := 0, 0, 0
	for _, c := range w.conversations {
		if w.place(before.writers, c.key) != w.place(now.writers, c.key) {
			moved++
		}
		for _, u := range c.members {
			n := len(w.gateways(u.id))
			if devices += n; w.place(before.homes, u.key) != w.place(now.homes, u.key) {
				announced += n
				moved++
			}
		}
	}
	w.report.Moved = 100 * float64(moved) / float64(len(w.conversations)*(1+w.Members))
	w.report.Announced = 100 * float64(announced) / float64(max(devices, 1))
}

// see begins a view of these nodes. Every node hears of it at some other time.
func (w *world) see(nodes []bus.Node) {
	view := &bus.View{Nodes: nodes}
	e := epoch{from: w.now, heard: make([]time.Duration, w.Nodes+1)}
	if len(w.epochs) == 0 {
		e.writers, e.homes = placement.New(view, bus.RoleWriter), placement.New(view, bus.RoleHome)
	} else {
		last := &w.epochs[len(w.epochs)-1]
		e.writers, e.homes = last.writers.Next(view), last.homes.Next(view)
		for i := range e.heard {
			e.heard[i] = w.now + time.Duration(w.random.Int64N(int64(heardWithin)))
		}
	}
	w.epochs = append(w.epochs, e)
}

// view returns the view that a node has now.
func (w *world) view(node int) *epoch {
	n := len(w.epochs) - 1
	for n > 0 && w.epochs[n].heard[node] > w.now {
		n--
	}
	return &w.epochs[n]
}

// hears returns when a node hears of the next change that has happened; ok is false if it has heard of all.
func (w *world) hears(node int) (in time.Duration, ok bool) {
	for i := range w.epochs {
		if at := w.epochs[i].heard[node]; at > w.now {
			return at - w.now, true
		}
	}
	return 0, false
}

// place returns the number of the node that has key.
func (w *world) place(t *placement.Table, key string) int {
	name, _ := t.Of(key) // there is a node
	return w.index[name]
}

// gateways returns the nodes at which a user's devices are connected. Those of the dead one have come back
// elsewhere.
func (w *world) gateways(user int) []int {
	h := rand.NewPCG(uint64(user), w.Seed)
	draw := h.Uint64() % 100
	devices := 0
	switch {
	case draw < twoDevices:
		devices = 2
	case draw < twoDevices+oneDevice:
		devices = 1
	}
	nodes := make([]int, 0, 2)
	for range devices {
		n := int(h.Uint64() % uint64(w.Nodes))
		if n == w.dead {
			n = (n + 1) % w.Nodes
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// end returns the report.
func (w *world) end() Report {
	r := w.report
	r.Users, r.Nodes, r.Members, r.Messages = w.Users, w.Nodes, w.Members, w.answered
	r.Lost = 100 * r.Lost / max(r.Deliveries+r.Lost, 1)
	for _, sum := range []*float64{&r.Deliveries, &r.Transactions, &r.Lookups, &r.Submits, &r.Answers, &r.Publishes, &r.Pushes, &r.BusBytes} {
		*sum /= float64(w.answered)
	}
	r.Heartbeats = 2 * (w.Nodes - 1)
	return r
}
