package pebble

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim/store"
)

// Writes wait in a queue. A committer takes all writes of the queue, makes one batch of them
// for the database, and makes the batch durable by one fsync. So callers of Begin share an
// fsync without knowing of each other.
//
// Writes gather in the queue while a committer is at work, until so many wait that a second one
// takes them: it makes its batch while the first one's batch is on its way to the disk. They
// also gather for up to 2 ms before an fsync, where pace says so. The more is written, or the
// slower the disk is, the more writes share one fsync.
//
// Relaxed writes have a queue and a committer of their own, so they never wait for an fsync.

const (
	committers = 2   // of durable writes
	secondFrom = 512 // the second one takes writes once so many wait

	commitWrites = 4096     // writes in one commit, at most
	commitBytes  = 8 << 20  // bytes of the writes in one commit, about
	queueBytes   = 64 << 20 // bytes of a queue's writes without an outcome before Begin waits, about
)

// queue holds the writes of one durability that no committer has taken.
type queue struct {
	durability store.Durability
	work       chan struct{} // capacity 1: a committer is to look at the queue
	stall      stall         // of its commits

	mu    sync.Mutex // guards the fields below
	ops   []op
	since time.Time     // when the first of ops came
	busy  int           // committers that carry out a commit
	bytes int           // of all writes without an outcome, those in a commit too
	space chan struct{} // closed when bytes falls; nil if nobody waits
	pace  pace          // relaxed writes tell it nothing, so it never has them wait
}

// op is one write.
type op struct {
	write *store.Write
	done  func(*store.Write)
	size  int       // bytes, about
	log   *logState // the log that was claimed for the write; nil: none
	err   error
}

func (q *queue) init(d store.Durability) {
	q.durability, q.work = d, make(chan struct{}, 1)
}

// Begin implements store.Store. Writes that are in a queue at the same time mostly share
// one Pebble batch and one fsync. A committer may wait up to companyWait for more writes.
func (s *Store) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	ops := make([]op, 0, len(writes))
	for _, w := range writes {
		if w.Err = w.Check(d); w.Err != nil {
			done(w)
			continue
		}
		ops = append(ops, op{write: w, done: done, size: sizeOf(w)})
	}
	if len(ops) == 0 {
		return
	}
	err := s.trouble()
	if err == nil {
		err = s.enter(len(ops))
	}
	if err == nil {
		q := &s.durable
		if d == store.Relaxed {
			q = &s.relaxed
		}
		if err = q.add(ctx, ops); err == nil {
			return
		}
		s.leave(len(ops))
	}
	fail(ops, err)
}

// fail ends ops with err.
func fail(ops []op, err error) {
	for i := range ops {
		ops[i].write.Err = err
		ops[i].done(ops[i].write)
	}
}

// refuseWaiting ends the writes that no committer has taken. Their outcome is err. It is
// called when the disk is stuck and nobody knows for how long.
func (s *Store) refuseWaiting(err error) {
	for _, q := range []*queue{&s.durable, &s.relaxed} {
		ops := q.empty()
		fail(ops, err)
		s.leave(len(ops))
	}
}

// sizeOf returns how many bytes w takes up, about.
func sizeOf(w *store.Write) int {
	const each = 64
	n := each + len(w.Log)
	for _, r := range w.Records {
		n += len(r)
	}
	for i := range w.Erase {
		n += each + len(w.Erase[i].Rest)
	}
	for i := range w.Cells {
		c := &w.Cells[i]
		n += each + len(c.Partition) + len(c.Key) + len(c.Value)
	}
	return n
}

// add puts ops into the queue. It waits while there is no space, until ctx ends.
func (q *queue) add(ctx context.Context, ops []op) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		space := q.tryAdd(ops)
		if space == nil {
			return nil
		}
		if err := await(ctx, space); err != nil {
			return err
		}
	}
}

// tryAdd puts ops into the queue and returns nil. If there is no space it returns a channel
// that is closed when the caller may try again.
func (q *queue) tryAdd(ops []op) (space <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > queueBytes {
		if q.space == nil {
			q.space = make(chan struct{})
		}
		return q.space
	}
	if len(q.ops) == 0 {
		q.since = time.Now()
	}
	q.ops = append(q.ops, ops...)
	for i := range ops {
		q.bytes += ops[i].size
	}
	q.poke()
	return nil
}

// poke wakes a committer if the queue has work for one more. The caller holds q.mu.
func (q *queue) poke() {
	if !q.hasWork() {
		return
	}
	select {
	case q.work <- struct{}{}:
	default: // a committer was woken before and has not looked yet: it will see these writes, too
	}
}

// hasWork reports whether one more committer should take writes now. The caller holds q.mu.
func (q *queue) hasWork() bool {
	return len(q.ops) > 0 && (q.busy == 0 || len(q.ops) >= secondFrom)
}

// run is a committer. It ends when stop is closed.
func (q *queue) run(stop <-chan struct{}, claim func(*commit, *op) bool, carryOut func(*commit)) {
	c := &commit{queue: q}
	for {
		select {
		case <-q.work:
			for q.begin(c, claim) {
				carryOut(c)
				q.end(c)
			}
		case <-stop:
			return
		}
	}
}

// begin fills c from the queue and reports whether c holds any writes. It takes nothing if
// the queue has no work for one more committer. It may first wait for company, see pace.
func (q *queue) begin(c *commit, claim func(*commit, *op) bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.hasWork() {
		return false
	}
	q.busy++
	if q.busy == 1 {
		if wait := q.pace.wait(q.since) - time.Since(q.since); wait > 0 {
			q.mu.Unlock()
			time.Sleep(wait)
			q.mu.Lock()
		}
	}
	if q.take(c, claim); len(c.ops) > 0 {
		return true
	}
	q.busy-- // another commit has claimed all these logs; when it ends, its committer looks at the queue again
	return false
}

// take moves writes from the queue into c, in their order. A write stays in the queue if the
// log that it writes to is already claimed, by another commit or by an earlier write in c.
// The caller holds q.mu.
func (q *queue) take(c *commit, claim func(*commit, *op) bool) {
	kept, size, full := 0, 0, false
	for i := range q.ops {
		o := &q.ops[i]
		full = full || len(c.ops) >= commitWrites || size >= commitBytes
		if full || o.write.TouchesLog() && !claim(c, o) {
			q.ops[kept] = *o
			kept++
			continue
		}
		size += o.size
		c.ops = append(c.ops, *o)
	}
	clear(q.ops[kept:])
	q.ops = q.ops[:kept]
	if full {
		q.poke()
	}
}

// end empties c. All ops of c have their outcomes.
func (q *queue) end(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	q.ended(c.ops)
	clear(c.ops)
	clear(c.passed)
	*c = commit{queue: q, ops: c.ops[:0], passed: c.passed[:0]}
}

// ended subtracts the size of ops, which have their outcomes, and wakes those who wait for
// space. The caller holds q.mu.
func (q *queue) ended(ops []op) {
	for i := range ops {
		q.bytes -= ops[i].size
	}
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
}

// empty takes all ops out of the queue. It is for a caller that knows their outcomes.
func (q *queue) empty() []op {
	q.mu.Lock()
	defer q.mu.Unlock()
	ops := q.ops
	q.ops = nil
	q.ended(ops)
	return ops
}

// syncing tells the pace that an fsync of so many writes begins.
func (q *queue) syncing(writes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.syncing(time.Now(), writes)
}
