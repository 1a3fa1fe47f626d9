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
package clock

import (
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
	Metrics prometheus.Registerer // nil: not reported
	Logger  *slog.Logger          // nil: slog.Default
}

// Watch watches the clock. Its methods may be called concurrently.
type Watch struct {
	source  Source
	log     *slog.Logger
	metrics *metrics

	judge   judge        // owned by run
	kernel  kernelState  // owned by run
	right   atomic.Int64 // a copy of judge.right
	relied  atomic.Int64 // offset when the clock could last be relied on; at first, at the start
	trouble atomic.Pointer[pim.Error]
	jump    atomic.Pointer[Reading] // at which the last jump was seen; nil: there was none

	look    chan struct{} // capacity 1: Gate or Relied has seen a jump
	stop    chan struct{}
	stopped sync.WaitGroup
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
	w := &Watch{source: o.Source, log: o.Logger, look: make(chan struct{}, 1), stop: make(chan struct{})}
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
	w.relied.Store(int64(w.read().offset()))
	w.observe()
	w.stopped.Go(w.run)
	return w
}

// Close stops watching. Gate then keeps its last answer, but still sees new jumps.
func (w *Watch) Close() {
	close(w.stop)
	w.stopped.Wait()
}

// Now returns the time of the wall clock that is watched.
func (w *Watch) Now() time.Time { return w.source.Now() }

// Mono returns the time of the monotonic clock with which the wall clock is compared.
func (w *Watch) Mono() time.Duration { return w.source.Mono() }

// Gate returns nil if the clock can be relied on, else why it cannot: a
// *pim.Error of KindClockUnhealthy. It is cheap enough to be called before every
// commit.
func (w *Watch) Gate() error {
	// right is read first: at a jump, observe stores the trouble before the new right.
	right := time.Duration(w.right.Load())
	if err := w.trouble.Load(); err != nil {
		return err
	}
	if w.jumped(w.read(), right) {
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
	select {
	case w.look <- struct{}{}:
	default:
	}
	return true
}

// Relied returns the time to judge by. While Gate returns nil it is the wall clock's
// time. Otherwise it is the last time that could be relied on, carried on by the
// monotonic clock. A node that starts with a clock in doubt carries on the time of its
// start.
func (w *Watch) Relied() time.Time {
	right := time.Duration(w.right.Load()) // first, as in Gate
	trouble := w.trouble.Load()
	r := w.read()
	if trouble != nil || w.jumped(r, right) {
		r.Wall = time.Duration(w.relied.Load()) + r.Mono
	}
	return time.Unix(0, int64(r.Wall))
}

// Jumped returns when the clock last jumped, in the clock's time after the jump, and how
// long ago that was. ever is false if the clock has not jumped. The jump may have been up
// to a second earlier. A jump within the last second may be known only to Gate.
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
	jumps := w.judge.jumps
	trouble := w.judge.take(r)
	if w.judge.jumps > jumps {
		w.jump.Store(&r)
	}
	w.metrics.report(r, w.judge.drift(r), trouble == "", w.judge.jumps-jumps) // before Gate changes
	if trouble == "" {
		w.relied.Store(int64(r.offset())) // before Gate changes
	}
	switch old := w.trouble.Load(); {
	case trouble == "" && old != nil:
		w.trouble.Store(nil)
		w.log.Info("the clock can be relied on again", "drift", w.judge.drift(r))
	case trouble != "" && (old == nil || old.Text != trouble):
		w.trouble.Store(refusal(trouble))
		if old == nil || w.judge.jumps > jumps {
			w.log.Error("the clock is off: nothing is written", "reason", trouble)
		}
	}
	w.right.Store(int64(w.judge.right)) // last, see Gate
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
