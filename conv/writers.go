package conv

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/crew"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store"
)

// Options are what Writers need besides the store.
type Options struct {
	Outlet  Outlet
	Shards  int // number of drivers; below 1: 1
	Members int // present members of a group, at most; 0: pim.MaxGroupMembers
	// For how long a message can be edited, and recalled by its sender; 0: DefaultEditWindow and
	// DefaultRecallWindow; below 0: not at all.
	EditWindow, RecallWindow time.Duration
	// RetainNotice is for how long a retain that shortens waits until it holds, by server times; 0:
	// not at all.
	RetainNotice time.Duration

	// Consent says that only those whom a user lets add the user to groups do (pim.CommandAdders); others invite. If it
	// is not set, everybody adds everybody. Invitations that are there can be taken and declined either way.
	Consent bool

	Deeds limit.Deed   // what each user may do in an hour; 0: not bounded
	Bytes int          // what the entries of each user may take up in a day; 0: not bounded
	Free  []pim.UserID // whom Deeds and Bytes do not bound

	// Overload is told how long requests wait, and says when new ones are refused. nil: they are not.
	Overload *limit.Overload

	Memory  int               // of the conversations held in memory, in bytes, about; 0: DefaultMemory
	Now     func() time.Time  // nil: time.Now
	Gate    func() error      // asked in each turn of a driver; if it fails, nothing is appended; nil: never fails
	Set     func() pim.Millis // when Now was set, as pim.Moment says; nil: never
	Name    string            // of these Writers; all that ever wrote to the store have different names; empty: made at random
	Alone   bool              // nobody else writes to the store: what Writers that died have left undone is done at once, not after a minute
	Metrics *Metrics          // nil: not counted
	Logger  *slog.Logger      // nil: slog.Default
}

// DefaultMemory is 512 MiB: some 5 KB for each of 100,000 conversations.
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
	members int // present members of a group, at most
	windows windows
	deeds   *deeds
	consent bool

	overload *limit.Overload // nil: nothing is shed
	begun    time.Time       // the time of the drivers' backlogs is what has passed since

	memory  int // bound on the conversations of all drivers together, in bytes, see cost
	seed    maphash.Seed
	drivers []*driver
	finders *crew.Crew[*lookup] // goroutines for look-ups
	stopped sync.WaitGroup      // the drivers, their look-ups and writes, and settleLoop

	announcer *announcer
	ctx       context.Context // ends when Close is called
	cancel    context.CancelFunc
	closing   sync.Once
	atRest    bool // drivers that stop write snapshots; set in closing, before ctx ends

	// Changed by all drivers.
	failures        failures
	unansweredBytes atomic.Int64 // bytes of requests without an answer
	liveWeight      atomic.Int64 // bytes of the conversations of all drivers, when each driver last called weigh
}

// New starts Writers over s. The caller must Close them before it closes s.
func New(s store.Store, o Options) *Writers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writers{
		store: s, now: o.Now, gate: o.Gate, set: o.Set, outlet: o.Outlet, metrics: o.Metrics, log: o.Logger,
		members: o.Members, memory: o.Memory, seed: maphash.MakeSeed(), ctx: ctx, cancel: cancel, announcer: newAnnouncer(o.Name),
		finders: crew.New[*lookup](keptFinders, ctx.Done()),
	}
	if w.members == 0 {
		w.members = pim.MaxGroupMembers
	}
	w.deeds = newDeeds(o.Deeds, o.Bytes, o.Free)
	w.consent = o.Consent
	w.overload, w.begun = o.Overload, time.Now()
	w.windows = windowsOf(o.EditWindow, o.RecallWindow)
	w.windows.notice = pim.Millis(o.RetainNotice.Milliseconds())
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
	w.stopped.Go(func() { w.settleLoop(ctx, o.Alone) })
	shards := max(1, o.Shards)
	for range shards {
		d := newDriver(w, w.memory/shards)
		w.drivers = append(w.drivers, d)
		w.stopped.Go(func() { d.run(ctx) })
	}
	return w
}

// Close answers the requests that wait with KindUnavailable, waits for the writes and look-ups
// under way, and stops the drivers. If it or CloseAtRest was called before, it only waits.
func (w *Writers) Close() { w.close(false) }

// CloseAtRest does what Close does. Before the drivers stop, they write the snapshots that are due of the
// conversations used last, so that their next load is short. That takes a second at most: if the store has not written
// them by then, their writes are still under way when CloseAtRest returns.
func (w *Writers) CloseAtRest() { w.close(true) }

func (w *Writers) close(atRest bool) {
	w.closing.Do(func() {
		w.atRest = atRest
		w.cancel()
	})
	w.stopped.Wait()
}

// Drain waits until all requests that were submitted before have been answered. If ctx ends
// first, it returns the error of ctx.
func (w *Writers) Drain(ctx context.Context) error {
	for _, d := range w.drivers {
		if err := d.in.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}
