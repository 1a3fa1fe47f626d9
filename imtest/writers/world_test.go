package writers

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// world is one run in one process: two writers over one store, in virtual time. The schedule
// takes a step only when nothing else can go on. So the seed alone decides what happens.
type world struct {
	variant
	rng     *rand.Rand
	book    *book
	plan    *plan
	gate    *gate
	calls   []*call
	writers [2]*writer
	memory  int           // conv.Options.Memory
	faults  atomic.Uint64 // see faulty
	deadly  float64       // how many of the steps kill a writer
	told    func(format string, args ...any)
	gone    trimmed
}

// writer is one life of a writer.
type writer struct {
	*conv.Writers
	world *world
	line  *line
	to    int
	life  int
	dead  atomic.Bool
}

// variant is what the runs of a test have in common.
type variant struct {
	broken func(store.Store) store.Store // makes each writer's store; nil: it is not broken
	lie    func(*book) bool              // falsifies an answer at the end, or returns false
	edits  bool                          // half of the requests edit or erase
	young  bool                          // entries are trimmed that were appended just now, also those whose outcome nobody knows yet
}

// play plays the run of a seed, and returns what was wrong in it. It tells the story to told,
// if that is not nil.
func (v variant) play(t *testing.T, seed uint64, told func(string, ...any)) (wrong []string) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, v, told)
		err := w.run()
		for _, x := range w.writers {
			w.kill(x)
		}
		if err != nil {
			wrong = []string{err.Error()}
			return
		}
		if v.lie != nil && !v.lie(w.book) {
			return
		}
		j := &judge{book: w.book, store: w.gate.store, history: w.gate.history, trimmed: w.gone, inOrder: true}
		wrong = j.check(w.plan.conversations())
	})
	return wrong
}

func newWorld(seed uint64, v variant, told func(string, ...any)) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := newBook()
	w := &world{
		rng: rng, book: b, plan: &plan{book: b, rng: rng, rewrites: v.edits}, variant: v, told: told,
		gate: &gate{store: storetest.NewMemory(), history: imtest.NewHistory()},
		// 0: the default; 1: a conversation is forgotten after each batch; else some are kept, and some are warmed
		memory: []int{0, 1, 12 << 10}[rng.IntN(3)],
	}
	w.setFaulty(float64(rng.IntN(3)) * 0.05)
	w.deadly = float64(rng.IntN(3)) * 0.002
	for i := range w.writers {
		w.open(i, 0)
	}
	return w
}

// open begins a writer's life.
func (w *world) open(to, life int) {
	x := &writer{world: w, to: to, life: life}
	x.line = &line{gate: w.gate, name: fmt.Sprintf("%c%d", 'a'+to, life)}
	var s store.Store = &engine{
		line: x.line, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 0)), fail: w.faulty,
	}
	if w.broken != nil {
		s = w.broken(s)
	}
	x.Writers = conv.New(s, conv.Options{
		EditWindow: window, RecallWindow: window,
		Outlet: x, Shards: 1, Members: groupMembers, Memory: w.memory, Name: x.line.name, Logger: slog.New(slog.DiscardHandler),
	})
	w.writers[to] = x
}

// faulty returns how many of the calls fail, or their answers are lost: 0 once the world heals. Writers ask for it when
// they write, and at rest they do so by themselves.
func (w *world) faulty() float64 { return math.Float64frombits(w.faults.Load()) }

func (w *world) setFaulty(share float64) { w.faults.Store(math.Float64bits(share)) }

// Deliver implements conv.Outlet.
func (x *writer) Deliver(answers []conv.Answer, pushes []conv.Published) {
	if x.dead.Load() {
		return
	}
	for i := range answers {
		t := answers[i].Request.Origin.(*trip)
		x.world.book.answered(t, toldBy(&answers[i]))
		x.world.tell("%s: %s is told %+v", x.line.name, t, t.told)
	}
	for i := range pushes {
		p := &pushes[i]
		entries := decode(p)
		x.world.book.pushed(entries, p.Members)
		for _, r := range p.Partly {
			var some []pim.Entry
			for _, e := range entries {
				if r.From <= e.Seq && e.Seq <= r.To {
					some = append(some, e)
				}
			}
			x.world.book.pushed(some, []pim.UserID{r.User})
		}
	}
}

func (w *world) tell(format string, args ...any) {
	if w.told != nil {
		w.told(format, args...)
	}
}

// run sends what the plan says, then heals the world, and sends again whatever has no answer.
func (w *world) run() error {
	for left := 30 + w.rng.IntN(60); left > 0; {
		w.look()
		switch n := len(w.book.waiting()); {
		case w.rng.Float64() < w.deadly:
			w.restart(w.writers[w.rng.IntN(2)])
		case w.rng.IntN(200) == 0:
			time.Sleep(time.Duration(w.rng.IntN(40_000)) * time.Millisecond)
		case w.memory != 1 && w.rng.IntN(8) == 0:
			w.warm()
		case len(w.calls) == 0 || n < 12 && w.rng.IntN(6) == 0:
			w.submit(w.plan.next())
			left--
		default:
			w.goOn()
		}
	}
	if err := w.heal(); err != nil {
		return err
	}
	for range 5 {
		w.submit(w.plan.next())
		w.drain()
	}
	for _, r := range w.plan.probes() { // which blocks are heard
		w.submit(r)
		w.drain()
	}
	for _, r := range w.book.requests {
		if err := w.settle(r); err != nil {
			return err
		}
	}
	return w.trims()
}

// heal ends all faults. Some minutes later, all blocks that stand in own logs are in force,
// also those whose writer has died before it answered.
func (w *world) heal() error {
	w.look()
	w.setFaulty(0)
	w.deadly = 0
	for range 6 {
		w.drain()
		time.Sleep(30 * time.Second)
	}
	w.drain()
	for _, u := range users {
		l, err := readLog(w.gate.store, pim.Own(u), nil)
		if err != nil {
			return err
		}
		w.book.stands(l.id, pim.Seq(len(l.entries)))
	}
	return nil
}

// settle sends r until it has an answer that says what has become of it. Nothing fails
// any more, so the first answer is one.
func (w *world) settle(r *request) error {
	if r.settled() {
		return nil
	}
	w.submit(r)
	w.drain()
	if t := r.trips[len(r.trips)-1]; !r.settled() {
		return fmt.Errorf("%s: although nothing fails, the answer is %+v (dead: %v)", t, t.told, t.dead)
	}
	return nil
}

// drain lets all calls go on, until none comes any more.
func (w *world) drain() {
	for w.look(); len(w.calls) > 0; w.look() {
		w.goOn()
	}
}

// look waits until nothing goes on by itself, and takes the calls that have come to the gate.
func (w *world) look() {
	synctest.Wait()
	w.calls = append(w.calls, w.gate.arrived()...)
}

// submit sends r to one of the writers. A read command waits for the store, on a goroutine.
func (w *world) submit(r *request) {
	x := w.writers[w.rng.IntN(2)]
	t := w.book.send(r, x.to, x.life)
	w.tell("%d: %s", t.sent, t)
	c := r.Request
	c.Attempt, c.Origin = t.says(), t
	if r.reads() {
		go x.Submit([]*conv.Request{&c})
	} else {
		x.Submit([]*conv.Request{&c})
	}
}

// warm has one of the writers load a conversation that nothing may have asked for.
func (w *world) warm() {
	x := w.writers[w.rng.IntN(2)]
	all := w.plan.conversations()
	id := all[w.rng.IntN(len(all))]
	w.tell("%s warms %s", x.line.name, id)
	go x.Warm(context.Background(), []pim.ConversationID{id})
}

// goOn lets one of the calls go on.
func (w *world) goOn() {
	i := w.rng.IntN(len(w.calls))
	c := w.calls[i]
	if w.deadly > 0 && c.by != nil && isEffect(c.write) && w.rng.IntN(8) == 0 {
		w.restart(w.writers[slices.IndexFunc(w.writers[:], func(x *writer) bool { return x.line == c.by })])
		return
	}
	w.calls = append(w.calls[:i], w.calls[i+1:]...)
	v := verdict{slow: w.rng.IntN(4) == 0}
	switch {
	case c.by == nil:
		w.tell("%s, late", c.what)
		w.gate.commit(context.Background(), c.write, store.Durable)
		return
	case w.rng.Float64() >= w.faulty():
	case c.write != nil:
		w.late(c)
		v.err = errLost
	case !strings.Contains(c.what, " hears of "):
		v.err = errRead
	}
	w.tell("%s (%v, slow: %v)", c.what, v.err, v.slow)
	c.next <- v
}

// isEffect reports whether w is a block's effect on a direct conversation, or an erase's: whoever
// dies now has written the entry already. Random deaths seldom meet this moment.
func isEffect(w *store.Write) bool {
	return w != nil && (erasesOnly(w) || slices.ContainsFunc(w.Cells, func(c store.CellWrite) bool {
		return strings.HasPrefix(string(c.Partition), "state/") && strings.HasPrefix(c.Key, "block/")
	}))
}

// erasesOnly reports whether w carries out an erase.
func erasesOnly(w *store.Write) bool {
	folds := func(c store.CellWrite) bool { return !strings.HasPrefix(string(c.Partition), "folds/") }
	return len(w.Records) == 0 && len(w.Erase)+len(w.Cells) > 0 && !slices.ContainsFunc(w.Cells, folds)
}

// late lets the write of c take effect later, or never. Its caller is not told.
func (w *world) late(c *call) {
	if w.rng.IntN(2) == 0 {
		w.calls = append(w.calls, &call{what: c.what, write: copyOf(c.write)})
	}
}

// restart kills a writer, and begins its next life.
func (w *world) restart(x *writer) {
	w.kill(x)
	w.open(x.to, x.life+1)
}

// kill ends a writer's life: nothing that it does from now on takes effect, and nobody hears
// of it. What was on its way to the store may take effect nevertheless.
func (w *world) kill(x *writer) {
	w.look()
	w.tell("%s is killed", x.line.name)
	x.dead.Store(true)
	w.gate.mu.Lock()
	x.line.dead = true
	w.gate.mu.Unlock()
	calls := w.calls
	w.calls = nil
	for _, c := range calls {
		if c.by != x.line {
			w.calls = append(w.calls, c)
			continue
		}
		if c.write != nil {
			w.late(c)
		}
		c.next <- verdict{err: errDead}
	}
	for _, t := range w.book.waiting() {
		if t.to == x.to && t.life == x.life {
			w.book.died(t)
		}
	}
	x.Close()
}
