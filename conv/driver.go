package conv

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store"
)

// driver drives the machines of the conversations that hash to it. It is one goroutine. It
// waits only for what comes in, and while the store has no space for more writes: each
// look-up has its own goroutine, and the store carries out the writes.
type driver struct {
	// Set at construction.
	*Writers
	part int // the driver's part of Writers.memory

	in   arrivals    // from any goroutine
	over atomic.Bool // weight was above part at the end of the last turn, and something could be forgotten; for the other drivers

	// Owned by run.
	machines map[pim.ConversationID]*machine
	touched  []*machine // to be advanced, see turn
	out      output
	writes   []*store.Write // buffer for the writes of one turn
	lookups  lookupQueue
	searches lookupQueue
	gather   gathering
	resting  resting
	free     batchPool
	turned   time.Time // when this turn began

	newest  *machine // the machines in a list, by their last use
	oldest  *machine
	weight  int // of all machines, see memory.go
	weighed int // how much of weight Writers.liveWeight counts
	shown   int // how many machines the metric counts
}

func newDriver(w *Writers, part int) *driver {
	return &driver{
		Writers: w, part: part,
		in:       arrivals{writers: w, wake: make(chan struct{}, 1), drains: drains{new(drain)}},
		machines: make(map[pim.ConversationID]*machine),
		lookups:  lookupQueue{most: lookupsUnderWay, each: lookupShare},
		searches: lookupQueue{most: searchesUnderWay, each: searchShare},
		gather:   gathering{timer: time.NewTimer(time.Hour)},
		resting:  resting{timer: time.NewTimer(time.Hour)},
	}
}

// driver returns the driver of c's machine.
func (w *Writers) driver(c pim.ConversationID) *driver {
	return w.drivers[maphash.String(w.seed, string(c))%uint64(len(w.drivers))]
}

func (d *driver) run(ctx context.Context) {
	defer d.gather.timer.Stop()
	defer d.resting.timer.Stop()
	for {
		select {
		case <-d.in.wake:
			d.turn(ctx)
		case <-d.gather.timer.C:
			d.turn(ctx)
		case <-d.resting.timer.C:
			d.resting.set, d.resting.due = false, true
			d.turn(ctx)
		case <-ctx.Done():
			d.stop(ctx)
			return
		}
	}
}

// turn gives each machine what has come in for it, advances the machines, and carries out
// their output. Only touched machines are advanced: those for which something has come in since
// they were advanced last.
func (d *driver) turn(ctx context.Context) {
	d.turned = time.Now()
	d.hear()
	if d.deliver() {
		d.hear() // clients that got an answer have sent again meanwhile
	}
	v := view{now: pim.MillisOf(d.now()), at: time.Now()}
	v.closed = d.gate() // after the clock was read: a jump before that is seen
	v.set = d.set()
	v.announcer = d.announcer
	d.advance(&v)
	d.beginWrites(ctx)
	d.beginLookups(ctx)
	d.deliver()
	if d.gather.writing == 0 {
		d.free.shrink()
	}
	d.shrink(&v)
	d.rest(&v)
	d.writeLater(ctx)
}

// advance advances the touched machines. While requests gather, it leaves out the machines
// that could begin a batch. They stay touched for a later turn.
func (d *driver) advance(v *view) {
	d.gather.decide()
	kept := d.touched[:0]
	for _, m := range d.touched {
		if d.gather.wait > 0 && m.ready() {
			kept = append(kept, m)
			continue
		}
		m.touched = false
		idle := m.batch == nil
		m.advance(v, &d.out, &d.free)
		if idle && m.batch != nil {
			d.gather.took(m.batch)
		}
		d.snapLong(m, v)
		d.used(m)
	}
	clear(d.touched[len(kept):])
	if d.touched = kept; len(kept) > 0 {
		d.gather.timer.Reset(d.gather.wait)
	}
}

// hear gives machines what has come in.
func (d *driver) hear() {
	in := d.in.take()
	defer d.in.giveBack(in)
	now := time.Now()
	d.waited(&in, now)
	var failed *machine
	var failure error // of failed
	failures := 0
	for _, b := range in.written {
		if b.left--; b.left > 0 {
			continue
		}
		d.metrics.written(b, now)
		if !b.affecting {
			d.overload.Waited(limit.Commits, now.Sub(b.begun))
			d.overload.Began(limit.Commits, -1)
		}
		m := b.machine
		err := m.written(&d.out)
		var conflict *store.ConflictError // another writer was faster; that is no failure
		if err != nil && !errors.As(err, &conflict) {
			failed, failure = m, err
			failures++
		}
		d.gather.ended(b, m.batch == nil, now)
		d.weighAgain(m)
		d.touch(m)
	}
	if failed != nil { // a disk that fails does so for very many at a time
		d.log.Error("writes failed", "conversations", failures, "one", failed.id, "err", failure)
	}
	for _, l := range in.found {
		if l.begun {
			d.queueOf(l).end(l)
		}
		if l.write != nil {
			d.gather.writing--
		}
		d.failed(l)
		m := l.machine
		switch {
		case l.live == nil:
		case l.live == l.warmed:
			d.metrics.Forward.Inc()
		default:
			d.metrics.Loads.Inc()
		}
		m.found(l, &d.out)
		if l.affecting != nil && m.batch == nil {
			d.gather.requests -= len(l.affecting.requests) // the batch has ended without another write
		}
		d.weighAgain(m) // the look-up of one client message ID may have put many into memory
		d.touch(m)
	}
	for _, l := range in.warmed {
		d.takeWarmed(l)
	}
	for _, said := range in.asked {
		said <- d.recent()
	}
	for _, r := range in.requests {
		if r.repeatOnly && !d.knows(r) {
			d.shedLate(r)
			continue
		}
		m := d.machine(r.Conversation)
		m.waiting = append(m.waiting, r)
		d.touch(m)
	}
}

// machine returns the machine of a conversation. It makes one if there is none.
func (d *driver) machine(id pim.ConversationID) *machine {
	m := d.machines[id]
	if m == nil {
		m = &machine{id: id}
		d.machines[id] = m
		d.link(m)
	}
	return m
}

// touch notes that something has come in for m.
func (d *driver) touch(m *machine) {
	if !m.touched {
		m.touched = true
		d.touched = append(d.touched, m)
	}
}

// beginWrites begins the writes of this turn.
func (d *driver) beginWrites(ctx context.Context) {
	if len(d.out.batches) == 0 {
		return
	}
	now := time.Now()
	for _, b := range d.out.batches {
		at := len(d.writes)
		d.writes = b.appendWrites(d.writes)
		b.begun, b.left = now, len(d.writes)-at
		d.gather.began(b, now)
		if !b.affecting {
			d.overload.Began(limit.Commits, 1)
		}
		for _, w := range d.writes[at:] {
			w.Owner = b
		}
	}
	// Not ctx: while the driver stops, a batch that waits for space in the store is still written.
	d.store.Begin(context.WithoutCancel(ctx), d.writes, store.Durable, d.in.written)
	clear(d.out.batches)
	d.out.batches = d.out.batches[:0]
	clear(d.writes)
	d.writes = d.writes[:0]
}

// writeLater begins the writes for whose outcome nobody waits.
func (d *driver) writeLater(ctx context.Context) {
	if writes := d.out.later; len(writes) > 0 {
		d.stopped.Add(len(writes))
		d.store.Begin(context.WithoutCancel(ctx), writes, store.Relaxed, func(*store.Write) { d.stopped.Done() })
		clear(writes)
		d.out.later = writes[:0]
	}
}

// beginLookups begins as many look-ups as may be under way.
func (d *driver) beginLookups(ctx context.Context) {
	for i, l := range d.out.lookups {
		d.out.lookups[i] = nil
		if l.write != nil {
			d.writeFor(ctx, l)
		} else if !d.queueOf(l).add(l) {
			l.request.findings = &findings{err: errManyLookups}
			d.in.found(l)
		}
	}
	d.out.lookups = d.out.lookups[:0]
	for _, q := range []*lookupQueue{&d.lookups, &d.searches} {
		for l := q.begin(); l != nil; l = q.begin() {
			if l.driver = d; !d.finders.Give(l) {
				d.stopped.Go(func() { d.find(l) })
			}
		}
	}
}

// queueOf returns the queue for look-ups like l.
func (d *driver) queueOf(l *lookup) *lookupQueue {
	if l.search {
		return &d.searches
	}
	return &d.lookups
}

// writeFor begins the write of l.
func (d *driver) writeFor(ctx context.Context, l *lookup) {
	d.gather.writing++
	d.store.Begin(context.WithoutCancel(ctx), []*store.Write{l.write}, store.Durable, func(w *store.Write) {
		l.err = w.Err
		d.in.found(l)
	})
}

// deliver hands answers and pushes to the Outlet. It reports whether there were any.
func (d *driver) deliver() bool {
	o := &d.out
	some := len(o.answers) > 0 || len(o.pushes) > 0
	if some {
		size := int64(0)
		for i := range o.answers {
			size += o.answers[i].Request.size()
		}
		d.unansweredBytes.Add(-size)
		d.metrics.unanswered(-len(o.answers), -size)
		d.metrics.answered(o.answers)
		d.in.release(o.answers)
		d.outlet.Deliver(o.answers, o.pushes)
		d.in.answered(o.answers)
	}
	for _, b := range o.spent {
		d.free.put(b)
	}
	o.delivered()
	return some
}

// stop waits for what is under way, and answers everything else with errStopping.
func (d *driver) stop(ctx context.Context) {
	d.in.close()
	for {
		d.hear()
		d.beginWrites(ctx) // the effects of batches
		d.writeLater(ctx)
		for _, l := range slices.Concat(d.lookups.empty(), d.searches.empty(), d.out.lookups) {
			l.err = errStopping
			l.machine.found(l, &d.out)
		}
		d.out.lookups = d.out.lookups[:0]
		for _, m := range d.machines {
			if m.lookup == nil { // else the look-up may still write to a request
				m.failAll(errStopping, &d.out)
			}
		}
		d.deliver()
		if d.gather.writing == 0 && d.lookups.underWay+d.searches.underWay == 0 {
			if d.atRest {
				d.restAll(ctx, restAtClose/len(d.drivers))
			}
			return
		}
		<-d.in.wake
	}
}

const (
	maxUnanswered      = 1 << 16   // requests without an answer that one driver holds
	maxUnansweredBytes = 256 << 20 // bytes of the requests without an answer, of all drivers, about
)

var (
	errStopping    = pim.Errorf(pim.KindUnavailable, "the node is stopping")
	errOverloaded  = &pim.Error{Kind: pim.KindOverloaded, Text: "the writer's queue is full", RetryAfter: time.Second, Err: queueFull}
	errManyLookups = &pim.Error{Kind: pim.KindOverloaded, Text: "too many of the user's messages have to be looked up", RetryAfter: time.Second, Err: manyLookups}
	errShare       = &pim.Error{Kind: pim.KindOverloaded, Text: "the user's messages take up too much of the writers' queues", RetryAfter: time.Second, Err: queueShared}
	errTooMuch     = &pim.Error{Kind: pim.KindOverloaded, Text: "the writers' queues hold too many bytes", RetryAfter: time.Second, Err: queueTooLarge}
)

// arrivals is what comes in for a driver: requests from Submit, outcomes of writes from the
// store, results of look-ups. Each wakes the driver, which takes all of them at a time. arrivals
// also counts the requests without an answer, and refuses more than maxUnanswered and
// maxUnansweredBytes, and more than a user's share of these.
type arrivals struct {
	writers *Writers
	wake    chan struct{} // capacity 1: something has come in
	spare   arrived       // owned by the driver: empty, its buffers are for what comes in later

	mu         sync.Mutex // guards the fields below
	arrived    arrived    // that the driver has not taken
	unanswered int        // requests
	backlog    limit.Backlog
	users      userQueues // the same requests
	drains     drains     // the same requests
	closed     bool       // no more requests are taken
}

// arrived is what a driver takes at a time.
type arrived struct {
	requests []*Request
	since    time.Time // when the first of requests came; zero if nobody wants to know
	written  []*batch  // a write of theirs has an outcome; as often as they have writes
	found    []*lookup
	warmed   []*live           // by Warm
	asked    []chan<- []recent // by Recent; each has room
}

// put takes requests in, all of them or none. The error says why it does not. While sends are shed it
// takes those for which there is room, and returns the others with the error.
func (a *arrivals) put(requests []*Request) (refused []*Request, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range requests {
		r.repeatOnly = false
	}
	if a.writers.overload.Sheds(limit.NewSends) && !a.closed {
		if requests, refused, err = a.shed(requests); len(requests) == 0 {
			return refused, err
		}
	}
	if err := a.putAll(requests); err != nil {
		return append(refused, requests...), err
	}
	return refused, err
}

// putAll takes requests in, all of them or none. a.mu is held.
func (a *arrivals) putAll(requests []*Request) error {
	size := int64(0)
	for _, r := range requests {
		size += r.size()
	}
	switch {
	case a.closed:
		return errStopping
	case a.unanswered+len(requests) > maxUnanswered:
		return errOverloaded
	case a.writers.unansweredBytes.Add(size) > maxUnansweredBytes:
		a.writers.unansweredBytes.Add(-size)
		return errTooMuch
	case !a.users.take(requests, maxUnanswered-a.unanswered, maxUnansweredBytes-a.writers.unansweredBytes.Load()+size):
		a.writers.unansweredBytes.Add(-size)
		return errShare
	}
	a.writers.metrics.unanswered(len(requests), size)
	if len(a.arrived.requests) == 0 && a.writers.overload != nil {
		a.arrived.since = time.Now()
	}
	for _, r := range requests {
		r.findings, r.loaded, r.fenced, r.tries, r.absentUpTo, r.searched, r.passed = nil, false, false, tries{}, 0, 0, false
	}
	a.drains.came(requests)
	a.unanswered += len(requests)
	a.arrived.requests = append(a.arrived.requests, requests...)
	a.poke()
	return nil
}

// written takes the write of a batch that has its outcome. The store calls it.
func (a *arrivals) written(w *store.Write) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived.written = append(a.arrived.written, w.Owner.(*batch))
	a.poke()
}

// found takes a look-up that has ended.
func (a *arrivals) found(l *lookup) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived.found = append(a.arrived.found, l)
	a.poke()
}

// warmed takes a state that Warm has loaded.
func (a *arrivals) warmed(l *live) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived.warmed = append(a.arrived.warmed, l)
	a.poke()
}

// ask has the driver say what it has in memory, unless it stops before.
func (a *arrivals) ask(said chan<- []recent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived.asked = append(a.arrived.asked, said)
	a.poke()
}

// poke gives the driver a turn.
func (a *arrivals) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns what has come in. The driver must give it back.
func (a *arrivals) take() arrived {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := a.arrived
	a.arrived, a.spare = a.spare, arrived{}
	return in
}

// giveBack empties in and keeps its buffers for what comes in later.
func (a *arrivals) giveBack(in arrived) {
	clear(in.requests)
	clear(in.written)
	clear(in.found)
	a.spare = arrived{requests: in.requests[:0], written: in.written[:0], found: in.found[:0]}
}

// answered counts requests that have got their answer.
func (a *arrivals) answered(answers []Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unanswered -= len(answers)
	for i := range answers {
		answers[i].Request.drain.answered()
	}
	a.served(answers)
}

// close makes put refuse requests.
func (a *arrivals) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}

// drain waits until all requests that have come so far are answered, or until ctx ends; then
// it returns the error of ctx.
func (a *arrivals) drain(ctx context.Context) error {
	a.mu.Lock()
	waits := a.drains.next()
	a.mu.Unlock()
	for _, n := range waits {
		select {
		case <-n.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// drain counts those requests without an answer that came between two calls of Drain.
type drain struct {
	left int
	done chan struct{} // closed when left becomes 0; nil if nobody waits
}

// drains are the drains of a driver whose requests are not all answered, and the one that counts
// the requests that come now. That is the last one.
type drains []*drain

// came notes that requests have come.
func (s drains) came(requests []*Request) {
	now := s[len(s)-1]
	for _, r := range requests {
		r.drain = now
	}
	now.left += len(requests)
}

// answered notes that a request of n has got its answer.
func (n *drain) answered() {
	if n.left--; n.left == 0 && n.done != nil {
		close(n.done)
	}
}

// next begins a new drain, and returns those whose requests are not all answered.
func (s *drains) next() []*drain {
	*s = slices.DeleteFunc(*s, func(n *drain) bool { return n.left == 0 })
	waits := slices.Clone(*s)
	for _, n := range waits {
		if n.done == nil {
			n.done = make(chan struct{})
		}
	}
	*s = append(*s, new(drain))
	return waits
}
