package conv

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Options are what Writers need besides the store.
type Options struct {
	Outlet  Outlet
	Shards  int               // at least 1
	Members int               // present members of a group, at most; 0: pim.MaxGroupMembers
	Memory  int               // bytes of conversations held in memory, about; 0: DefaultMemory
	Now     func() time.Time  // nil: time.Now
	Gate    func() error      // asked before each batch; its error refuses what the batch would append; nil: never
	Set     func() pim.Millis // when Now was set, as pim.Moment says; nil: never
	Metrics *Metrics          // nil: not counted
	Logger  *slog.Logger      // nil: slog.Default
}

// DefaultMemory is some 5 KB for each of 100,000 conversations.
const DefaultMemory = 512 << 20

// Writers are the writers of all conversations of this node.
type Writers struct {
	store   store.Store
	now     func() time.Time
	gate    func() error
	set     func() pim.Millis
	outlet  Outlet
	metrics *Metrics
	log     *slog.Logger
	members int // of a group, at most
	memory  int // bytes of conversations, of all shards together, see cost
	seed    maphash.Seed
	shards  []*shard
	stopped sync.WaitGroup
	ctx     context.Context // ends when they are closed
	cancel  context.CancelFunc

	queued     atomic.Int64  // bytes of requests without an answer
	liveWeight atomic.Int64  // of all shards, when each last said
	blockings  atomic.Uint64 // raised before a block command is answered; begins at 1: a live's 0 is never up to date
}

// New starts writers over s. The caller must Close them before it closes s.
func New(s store.Store, o Options) *Writers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writers{
		store: s, now: o.Now, gate: o.Gate, set: o.Set, outlet: o.Outlet, metrics: o.Metrics, log: o.Logger,
		members: o.Members, memory: o.Memory, seed: maphash.MakeSeed(), ctx: ctx, cancel: cancel,
	}
	if w.members == 0 {
		w.members = pim.MaxGroupMembers
	}
	if w.memory == 0 {
		w.memory = DefaultMemory
	}
	if w.now == nil {
		w.now = time.Now
	}
	if w.gate == nil {
		w.gate = func() error { return nil }
	}
	if w.set == nil {
		w.set = func() pim.Millis { return 0 }
	}
	if w.metrics == nil {
		w.metrics = NewMetrics(nil)
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	w.blockings.Store(1)
	shards := max(1, o.Shards)
	for range shards {
		sh := newShard(w, w.memory/shards)
		w.shards = append(w.shards, sh)
		w.stopped.Go(func() { sh.run(ctx) })
	}
	return w
}

// Submit hands requests to their writers. Each is answered through the Outlet,
// once: those that fail at once too. Requests of one conversation are taken in
// the order given. Submit does not block, but for read commands, of which it reads what
// they say; past the queue's bound the answer is KindOverloaded.
func (w *Writers) Submit(requests []*Request) {
	var refused []Answer
	for len(requests) > 0 {
		r := requests[0]
		if err := w.check(r); err != nil {
			refused = append(refused, Answer{Request: r, Err: err})
			requests = requests[1:]
			continue
		}
		// A connection mostly sends to one conversation at a time: hand over the
		// whole run with one lock.
		n := 1
		for n < len(requests) && requests[n].Conversation == r.Conversation && w.check(requests[n]) == nil {
			n++
		}
		if err := w.shard(r.Conversation).enqueue(requests[:n]); err != nil {
			for _, r := range requests[:n] {
				refused = append(refused, Answer{Request: r, Err: err})
			}
		}
		requests = requests[n:]
	}
	if len(refused) > 0 {
		w.metrics.answered(refused)
		w.outlet.Deliver(refused, nil)
	}
}

func (w *Writers) shard(c pim.ConversationID) *shard {
	return w.shards[maphash.String(w.seed, string(c))%uint64(len(w.shards))]
}

// Close answers what is queued with KindUnavailable, waits for what is being
// committed, and stops.
func (w *Writers) Close() {
	w.cancel()
	w.stopped.Wait()
}

// Drain waits until all that was submitted before has been answered, or ctx
// ends.
func (w *Writers) Drain(ctx context.Context) error {
	for _, s := range w.shards {
		if err := s.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}
