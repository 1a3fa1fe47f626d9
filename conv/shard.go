package conv

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	queueBound = 1 << 16   // requests waiting for a shard
	queueBytes = 256 << 20 // of the requests that wait for all shards or are under way, about
	batchBound = 1024      // requests in one commit
	arenaBound = 4 << 20   // bytes of entries in one commit, about
	cellBound  = 32 << 10  // offline lists and memberships that one commit writes, about
	maxTries   = 3         // commits that may fail before a request does
	keepArena  = 2 << 20   // bytes of buffer kept from batch to batch
)

// shard owns the conversations that hash to it. Everything but the queue belongs
// to its goroutine.
type shard struct {
	*Writers

	mu     sync.Mutex
	queue  []*Request
	closed bool
	wake   chan struct{} // capacity 1: the queue is not empty

	lives  map[pim.ConversationID]*live
	newest *live // list by last use
	oldest *live
	weight int

	part    int // of Writers.memory
	weighed int // of weight, counted in Writers.liveWeight
	shown   int // of lives, counted in the metric

	refusal error    // why the batch being made appends nothing; nil if it may
	groups  []*group // of the batch being made
	cells   int      // that they write, about
	answers []Answer
	arena   []byte
	spare   []*Request // the queue's other buffer
	marks   []drained  // to close when all before them has been delivered
}

func newShard(w *Writers, part int) *shard {
	return &shard{Writers: w, part: part, wake: make(chan struct{}, 1), lives: make(map[pim.ConversationID]*live)}
}

var (
	errStopping   = pim.Errorf(pim.KindUnavailable, "the node is stopping")
	errOverloaded = &pim.Error{Kind: pim.KindOverloaded, Text: "the writer's queue is full", RetryAfter: time.Second, Err: queueFull}
	errTooMuch    = &pim.Error{Kind: pim.KindOverloaded, Text: "the writers' queues hold too many bytes", RetryAfter: time.Second, Err: queueTooLarge}
)

func (s *shard) enqueue(requests []*Request) error {
	size := int64(0)
	for _, r := range requests {
		size += r.size()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errStopping
	case len(s.queue)+len(requests) > queueBound:
		return errOverloaded
	case s.queued.Add(size) > queueBytes:
		s.queued.Add(-size)
		return errTooMuch
	}
	if size > 0 {
		s.metrics.queued(len(requests), size)
	}
	s.queue = append(s.queue, requests...)
	if len(s.queue) == len(requests) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (s *shard) run(ctx context.Context) {
	for {
		select {
		case <-s.wake:
			for requests := s.take(); len(requests) > 0; requests = s.take() {
				for len(requests) > 0 && ctx.Err() == nil {
					n := min(len(requests), batchBound)
					s.batch(ctx, requests[:n])
					requests = requests[n:]
				}
				s.refuse(requests)
			}
		case <-ctx.Done():
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			s.refuse(s.take())
			return
		}
	}
}

// take returns what is queued. It stays valid until the take after the next.
func (s *shard) take() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.spare)
	taken := s.queue
	s.queue, s.spare = s.spare[:0], taken
	return taken
}

func (s *shard) refuse(requests []*Request) {
	for _, r := range requests {
		s.fail(r, errStopping)
	}
	s.deliver(nil)
}

// drain waits until the shard has nothing queued and nothing under way.
func (s *shard) drain(ctx context.Context) error {
	done := make(chan struct{})
	err := s.enqueue([]*Request{{Origin: drained(done)}})
	if err != nil {
		return nil // full of, or closed to, requests: they are answered as such
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drained is the Origin of a request that only marks a place in the queue.
type drained chan struct{}

// batch takes requests through step and one commit. Those whose commit failed
// in a way that a fresh look at the log may mend go round again.
func (s *shard) batch(ctx context.Context, requests []*Request) {
	for len(requests) > 0 {
		now := pim.MillisOf(s.now())
		s.refusal = s.gate() // after the clock was read: a jump before that is seen
		set := s.set()
		n := 0
		for s.cells = 0; n < len(requests) && len(s.arena) < arenaBound && s.cells < cellBound; n++ {
			requests[n].set = set
			s.step(ctx, requests[n], now)
		}
		requests = requests[n:]
		if again := s.commit(ctx); len(again) > 0 {
			requests = append(again, requests...)
		}
	}
	s.shrink()
}

func (s *shard) step(ctx context.Context, r *Request, now pim.Millis) {
	if d, ok := r.Origin.(drained); ok {
		s.marks = append(s.marks, d)
		return
	}
	l, err := s.conversation(ctx, r.Conversation)
	if err != nil {
		s.fail(r, err)
		return
	}
	defer s.drop(l)
	var k known
	k.first, err = l.lookUp(ctx, s.store, r)
	if l.bulk() != l.bulkWeighed {
		s.weighAgain(l)
	}
	if err != nil {
		s.fail(r, err)
		return
	}
	newcomers := l.newcomers(r)
	if (s.refusal != nil || newcomers != nil) && k.first == 0 && l.recent.seq(r.ClientID) == 0 { // it is no repetition
		err := s.refusal
		if err == nil {
			err = s.heedNames(ctx, newcomers)
		}
		if err != nil {
			s.fail(r, err)
			return
		}
	}
	if err := s.heedBlocks(ctx, l); err != nil {
		s.fail(r, err)
		return
	}
	if err := l.knowOwner(ctx, s.store, r); err != nil {
		s.fail(r, err)
		return
	}
	s.readAgain(l, r)
	if k.anchor, err = l.lookUpAnchor(ctx, s.store, r, now); err != nil {
		s.fail(r, err)
		return
	}
	o := l.step(r, k, now)
	switch {
	case o.err != nil && l.batch != nil && len(l.batch.entries) > 0:
		// Perhaps because of an entry that is not durable yet, and may never be.
		l.batch.refused = append(l.batch.refused, Answer{Request: r, Err: o.err})
	case o.err != nil:
		s.fail(r, o.err)
	case o.first != 0 && (l.stale || l.batch != nil):
		g := s.group(l)
		g.repeats = append(g.repeats, repeat{r, o.first})
	case o.first != 0:
		s.repeat(ctx, l, r, o.first)
	default:
		s.arena = s.group(l).add(r, &o, s.arena)
		s.cells += 2 * (len(o.joined) + len(o.departed))
	}
}

// group returns l's part of the batch being made.
func (s *shard) group(l *live) *group {
	if l.batch == nil {
		l.batch = &group{conv: l}
		s.groups = append(s.groups, l.batch)
		s.cells += len(l.present)
	}
	return l.batch
}

// repeat answers a request whose entry has long been durable.
func (s *shard) repeat(ctx context.Context, l *live, r *Request, first pim.Seq) {
	entries, err := readEntries(ctx, s.store, l.id, first, first)
	switch {
	case err != nil:
		s.fail(r, err)
	case entries[0].Sender != r.Sender:
		s.fail(r, pim.Errorf(pim.KindConflict, "client message ID %s belongs to another sender", r.ClientID))
	default:
		s.succeed(r, &entries[0], true)
	}
}

// succeed answers r, whose entry e is durable.
func (s *shard) succeed(r *Request, e *pim.Entry, duplicate bool) {
	if r.blocks() {
		s.blockings.Add(1) // whoever did the commit, and whatever it knew of it
	}
	s.answers = append(s.answers, answer(r, e, duplicate))
}

func (s *shard) fail(r *Request, err error) {
	if d, ok := r.Origin.(drained); ok {
		s.marks = append(s.marks, d)
		return
	}
	s.answers = append(s.answers, Answer{Request: r, Err: retryable(err)})
}

// commit makes the batch durable and delivers it. It returns the requests that
// are to be stepped again.
func (s *shard) commit(ctx context.Context) (again []*Request) {
	groups := s.groups
	s.groups = s.groups[:0]
	writes := make([]*store.Write, len(groups))
	for i, g := range groups {
		g.finish()
		g.conv.batch = nil
		writes[i] = &g.write
	}
	if len(writes) > 0 {
		start := time.Now()
		// Not to be broken off: an outcome that is not waited for is unknown.
		s.store.Commit(context.WithoutCancel(ctx), writes, store.Durable)
		s.metrics.committed(groups, time.Since(start))
	}
	var pushes []Published
	for _, g := range groups {
		if g.write.Err != nil {
			again = append(again, s.undo(g)...)
			continue
		}
		s.settled(g)
		s.weighAgain(g.conv)
		s.settle(ctx, g)
		if len(g.entries) > 0 {
			pushes = append(pushes, g.published())
		}
	}
	s.deliver(pushes)
	clear(groups) // with all that they refer to
	return again
}

// settled takes note that the write of a group is durable.
func (s *shard) settled(g *group) {
	if len(g.conv.unsettledSettings) > 0 {
		s.blockings.Add(1) // their senders may never ask again
	}
	g.conv.settled(g)
}

// settle answers the requests of a group that is durable.
func (s *shard) settle(ctx context.Context, g *group) {
	s.answers = append(s.answers, g.refused...)
	for i, r := range g.requests {
		s.succeed(r, &g.entries[i], false)
	}
	for _, rep := range g.repeats {
		if i := int(rep.first) - int(g.write.After) - 1; len(g.entries) > 0 && i >= 0 {
			if e := &g.entries[i]; e.Sender == rep.request.Sender {
				s.succeed(rep.request, e, true)
				continue
			}
		}
		s.repeat(ctx, g.conv, rep.request, rep.first)
	}
}

// undo forgets a conversation whose write failed. Its requests are stepped again
// on what the log holds then, unless the failure is not of that kind.
func (s *shard) undo(g *group) (again []*Request) {
	s.forget(g.conv)
	var conflict *store.ConflictError
	again = g.requests
	for _, rep := range g.repeats {
		again = append(again, rep.request)
	}
	for i := range g.refused {
		again = append(again, g.refused[i].Request)
	}
	if slices.ContainsFunc(again, (*Request).blocks) {
		s.blockings.Add(1) // it may have been written for all that
	}
	retry := errors.As(g.write.Err, &conflict) || errors.Is(g.write.Err, store.ErrUnknown)
	kept := again[:0]
	for _, r := range again {
		if r.tries++; retry && r.tries < maxTries {
			kept = append(kept, r)
		} else {
			s.fail(r, g.write.Err)
		}
	}
	if failed := len(again) - len(kept); failed > 0 {
		s.log.Error("commit failed", "conversation", g.conv.id, "requests", failed, "err", g.write.Err)
	}
	return kept
}

// retryable gives a failure that is the node's and not the request's, if it is any,
// a kind that tells a client to try again: that something is corrupt, or that the
// node is stopping, is no reason to give a message up.
func retryable(err error) error {
	switch pim.KindOf(err) {
	case pim.KindUnknown, pim.KindCorrupt: // unknown: the context's, when the writers are closed
		return pim.Errorf(pim.KindUnavailable, "the writer cannot read or write now: %w", err)
	}
	return err
}

func (s *shard) deliver(pushes []Published) {
	if len(s.answers) > 0 || len(pushes) > 0 {
		size := int64(0)
		for i := range s.answers {
			size += s.answers[i].Request.size()
		}
		s.queued.Add(-size)
		s.metrics.queued(-len(s.answers), -size)
		s.metrics.answered(s.answers)
		s.outlet.Deliver(s.answers, pushes)
	}
	for _, d := range s.marks {
		close(d)
	}
	s.marks = s.marks[:0]
	clear(s.answers)
	s.answers = s.answers[:0]
	if cap(s.arena) > keepArena {
		s.arena = nil
	}
	s.arena = s.arena[:0]
}
