// Package clock watches the node's own clock. Server times and the display order
// depend on it, and an entry that was written with a wrong clock stays wrong.
//
// Every second a Watch compares the wall clock with the monotonic clock, and asks the
// kernel what it knows of its clock:
//
//   - If the clock jumps by more than 400 ms, the node does not write until the clock has
//     been steady for 10 s. One node alone cannot tell which time was right, so it then
//     takes the new time. A time service that slews the clock, by 500 ppm at most, does
//     not make it jump.
//   - If the kernel says that its clock is synchronised and off by more than 400 ms, the
//     node does not write while that lasts.
//   - If the kernel's clock is not synchronised, or the kernel cannot be asked (a laptop,
//     a container), the Watch reports that, and the node writes.
//
// Gate compares the two clocks as well, so that nothing is written between a jump and
// the Watch's next look at the clock.
//
// While the clock cannot be relied on, Relied carries on the last time that could be
// relied on. If a jump is taken back within seconds, no caller of Relied sees it.
//
// A node that has others beside it asks them, see Hear: then most of the clocks decide which time is right, within a second of a
// jump. A node whose own clock is off goes by the time of most, and writes. One that starts has no time to go by until it has heard
// them, see Options.Wait and Await.
package clock

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	every      = time.Second
	retryAfter = 2 * time.Second
	atOnce     = 10 * time.Millisecond // two clocks read within it count as read together
)

// Source is the clocks of a node. The zero Source uses the machine's clocks.
type Source struct {
	Now    func() time.Time       // the wall clock; nil: time.Now
	Mono   func() time.Duration   // since any fixed moment, never decreases; nil: the process's
	Kernel func() (Kernel, error) // nil: asks the operating system
}

// Options are what a Watch needs. The zero value watches the machine's clock.
type Options struct {
	Source  Source
	Wait    bool                  // Gate refuses until most clocks, the node's own among them, agree on a time, or Await gives up
	Metrics prometheus.Registerer // nil: not reported
	Logger  *slog.Logger          // nil: slog.Default
}

// Watch watches the clock. Its methods may be called concurrently.
type Watch struct {
	source  Source
	log     *slog.Logger
	metrics *metrics

	judge  judge       // owned by run
	course course      // owned by run; waits is guarded by mu
	kernel kernelState // owned by run

	now  atomic.Pointer[state]
	jump atomic.Pointer[Reading] // at which the time of Relied was set last, see Jumped; nil: it was not

	mu    sync.Mutex
	peers Peers // guarded by mu

	settled chan struct{} // closed when the node does not wait for others any more, see Await
	doubts  chan struct{} // capacity 1, see Doubts
	look    chan struct{} // capacity 1: Gate or Relied has seen a jump
	stop    chan struct{}
	stopped sync.WaitGroup
}

// state is what the last look at the clock came to. It does not change.
type state struct {
	right   time.Duration // offset of the wall clock; one that is farther from it than Bound has jumped since
	relied  time.Duration // offset of the time by which the node goes if steered or trouble is set
	steered bool          // the node does not go by the wall clock as it is, see course
	carried bool          // the wall clock is off, and the node knows the time nevertheless
	waits   bool          // for others to say what time it is
	trouble *pim.Error    // why the clock cannot be relied on; nil: it can
}

// kernelState is what was last said about the kernel's clock.
type kernelState uint8

const (
	unsaid kernelState = iota
	synchronised
	unsynchronised
)

// New looks at the clock and starts watching it. Close must be called.
func New(o Options) *Watch {
	w := &Watch{
		source: o.Source, log: o.Logger, course: course{waits: o.Wait},
		settled: make(chan struct{}), look: make(chan struct{}, 1), doubts: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if !o.Wait {
		close(w.settled)
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	if w.source.Now == nil {
		w.source.Now = time.Now
	}
	if w.source.Mono == nil {
		begun := time.Now()
		w.source.Mono = func() time.Duration { return time.Since(begun) }
	}
	if w.source.Kernel == nil {
		w.source.Kernel = askKernel
	}
	w.metrics = newMetrics(o.Metrics)
	w.observe()
	w.stopped.Go(w.run)
	return w
}

// Close stops watching. Gate then keeps its last answer, but still sees new jumps.
func (w *Watch) Close() {
	close(w.stop)
	w.stopped.Wait()
}

// Now returns the time of the wall clock that is watched, whatever it is worth. Other nodes ask for it, see Hear.
func (w *Watch) Now() time.Time { return w.source.Now() }

// Mono returns the time of the monotonic clock with which the wall clock is compared.
func (w *Watch) Mono() time.Duration { return w.source.Mono() }

// Gate returns nil if the node knows the time, else why it does not: a
// *pim.Error of KindClockUnhealthy. It is cheap enough to be called before every
// commit.
func (w *Watch) Gate() error {
	switch s := w.now.Load(); {
	case s.trouble != nil:
		return s.trouble
	case !s.carried && w.jumped(w.read(), s.right):
		return refusal("the node's clock has jumped")
	}
	return nil
}

// jumped reports whether the offset of r is too far from right. If it is, run looks at
// the clock at once.
func (w *Watch) jumped(r Reading, right time.Duration) bool {
	if off := r.offset() - right; off.Abs() <= Bound {
		return false
	}
	w.poke()
	return true
}

// poke has run look at the clock at once.
func (w *Watch) poke() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

// Relied returns the time to judge by. While Gate returns nil it is the wall clock's
// time, or that of most nodes if the wall clock is off. Otherwise it is the last time that could be relied on, carried on by the
// monotonic clock. A node that starts with a clock in doubt carries on the time of its
// start.
func (w *Watch) Relied() time.Time {
	s, r := w.now.Load(), w.read()
	if s.steered || s.trouble != nil || w.jumped(r, s.right) {
		r.Wall = s.relied + r.Mono
	}
	return time.Unix(0, int64(r.Wall))
}

// Hear takes what a question to another node has told of its wall clock. asked is Mono when the question was sent; the
// offset of the sample is from Mono. It counts for a minute, or until the node's own clock jumps.
func (w *Watch) Hear(peer string, s Sample, asked time.Duration) {
	w.mu.Lock()
	w.peers.Take(peer, s, asked)
	w.mu.Unlock()
	w.poke()
}

// Await waits until most clocks agree on a time by which the node can go, and reports true. If ctx ends before, it reports false,
// and the node goes by its wall clock, whatever that is worth. Without Options.Wait it reports true at once.
func (w *Watch) Await(ctx context.Context) bool {
	select {
	case <-w.settled:
		return true
	case <-ctx.Done():
	}
	w.mu.Lock()
	w.course.waits = false
	w.mu.Unlock()
	w.poke()
	select {
	case <-w.settled:
	case <-w.stop:
	}
	return false
}

// Doubts returns a channel on which a value comes when the wall clock has jumped: what other nodes say of the time
// is wanted at once.
func (w *Watch) Doubts() <-chan struct{} { return w.doubts }

// Jumped returns when the time of Relied was last set to another, in the time after that, and how
// long ago that was. ever is false if it was not. A jump of the wall clock that was taken back, or that other nodes have
// not confirmed, does not count. What was set may have been so up to a second earlier, and is known once Gate returns nil.
func (w *Watch) Jumped() (at time.Time, ago time.Duration, ever bool) {
	r := w.jump.Load()
	if r == nil {
		return at, 0, false
	}
	return time.Unix(0, int64(r.Wall)), w.source.Mono() - r.Mono, true
}

func refusal(text string) *pim.Error {
	return &pim.Error{Kind: pim.KindClockUnhealthy, Text: text, RetryAfter: retryAfter}
}

func (w *Watch) run() {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-w.look:
		case <-w.stop:
			return
		}
		w.observe()
	}
}

// read reads both clocks. If the process was held up between the two readings, which
// would look like a jump, read tries again, three times in all.
func (w *Watch) read() Reading {
	var r Reading
	for range 3 {
		before := w.source.Mono()
		r.Wall = time.Duration(w.source.Now().UnixNano())
		took := w.source.Mono() - before
		r.Mono = before + took/2
		if took <= atOnce {
			break
		}
	}
	return r
}

// observe takes one reading, and publishes and logs what has changed by it.
func (w *Watch) observe() {
	r := w.read()
	r.Kernel = w.ask()
	old := w.now.Load()
	jumps := w.judge.jumps
	unsteady, wrong := w.judge.take(r)
	jumped := w.judge.jumps > jumps
	w.mu.Lock()
	unsteady, wrong, set := w.course.take(r, jumped, unsteady, wrong, &w.peers)
	waits := w.course.waits
	w.peers.Forget(func(string) bool { return true }, r.Mono)
	w.mu.Unlock()
	now := &state{right: w.judge.right, relied: w.course.relied, steered: w.course.steered, carried: w.course.carried, waits: waits}
	switch trouble := w.judge.trouble(r.Kernel, unsteady, wrong); {
	case trouble != "":
		now.trouble = refusal(trouble)
	case waits:
		now.trouble = refusal("the node has just started, and not heard yet what time it is")
	}
	if set != nil {
		w.jump.Store(set) // before Gate changes
	}
	w.metrics.report(r, w.judge.drift(r), now, w.judge.jumps-jumps) // before Gate changes
	w.now.Store(now)
	if old != nil && old.waits && !waits {
		close(w.settled)
	}
	if jumped {
		select {
		case w.doubts <- struct{}{}:
		default:
		}
	}
	w.say(old, now, r, jumped)
}

// say logs what has changed.
func (w *Watch) say(old, now *state, r Reading, jumped bool) {
	if old == nil {
		old = new(state)
	}
	switch {
	case now.waits || old.waits && now.trouble == nil: // as at each start
	case now.trouble == nil && old.trouble != nil:
		w.log.Info("the clock can be relied on again", "drift", w.judge.drift(r))
	case now.trouble != nil && (old.trouble == nil || jumped):
		w.log.Error("the clock is off: nothing is written", "reason", now.trouble.Text)
	}
	switch {
	case now.carried && !old.carried:
		w.log.Error("this node's clock is off: the node goes by the time of the others; set it", "by", (r.offset() - now.relied).Round(time.Millisecond))
	case !now.carried && old.carried:
		w.log.Info("the node goes by its own clock again")
	}
}

// ask asks the kernel, and logs when the kernel gains or loses its time service.
func (w *Watch) ask() Kernel {
	k, err := w.source.Kernel()
	said := "it is not synchronised"
	if err != nil {
		k, said = Kernel{}, err.Error()
	}
	is := unsynchronised
	if k.Synchronised {
		is = synchronised
	}
	switch was := w.kernel; {
	case is == was:
	case is == unsynchronised:
		w.log.Warn("the clock is not known to be synchronised: run a time service", "kernel", said)
	case was == unsynchronised:
		w.log.Info("the clock is synchronised", "offset", k.Offset, "error", k.Error, "max_error", k.MaxError)
	}
	w.kernel = is
	return k
}
