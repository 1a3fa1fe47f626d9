// Package clock watches the node's own clock. Server times and the display order
// lean on it, and what is written with a wrong one stays wrong.
//
// Every second the wall clock is compared with the monotonic one, and the kernel
// is asked what it knows of its clock:
//
//   - A jump of more than 400 ms: the node does not write until the clock has been
//     steady for 10 s. Nobody in one node can tell which time was right; after
//     that the new one is taken. A time service that slews the clock, by 500 ppm
//     at most, does not make it jump.
//   - The kernel says that it is synchronised, and off by more than 400 ms: the
//     node does not write while it is.
//   - The kernel is not synchronised, or cannot be asked (a laptop, a container):
//     that is reported, and the node writes.
//
// Gate compares the two clocks as well, so that nothing is written between a
// jump and the next look at it.
//
// While the clock cannot be relied on, Relied goes on from the time that could: a
// jump that is taken back within seconds is seen by nobody who asks it.
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
	atOnce     = 10 * time.Millisecond // two clocks that were read within it were read together
)

// Source is the clocks of a node. The zero Source is those of the machine.
type Source struct {
	Now    func() time.Time       // the wall clock; nil: time.Now
	Mono   func() time.Duration   // since any fixed moment, never decreases; nil: the process's
	Kernel func() (Kernel, error) // nil: the operating system's
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

	judge   judge // of the watching goroutine
	kernel  kernelState
	right   atomic.Int64 // judge.right
	relied  atomic.Int64 // offset when the clock could be relied on last; at first that of the start
	trouble atomic.Pointer[pim.Error]
	jump    atomic.Pointer[Reading] // by which the last jump was seen; nil: there was none

	look    chan struct{} // capacity 1: Gate has seen a jump
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

// Close stops watching. Gate goes on to say what it said last.
func (w *Watch) Close() {
	close(w.stop)
	w.stopped.Wait()
}

// Now returns the wall clock that is watched.
func (w *Watch) Now() time.Time { return w.source.Now() }

// Mono returns the monotonic clock that it is compared with.
func (w *Watch) Mono() time.Duration { return w.source.Mono() }

// Gate returns nil if the clock can be relied on, else why it cannot: a
// *pim.Error of KindClockUnhealthy. It is cheap enough to be called before every
// commit.
func (w *Watch) Gate() error {
	right := time.Duration(w.right.Load()) // first: observe takes a jump for right when it has stored the trouble
	if err := w.trouble.Load(); err != nil {
		return err
	}
	if w.jumped(w.read(), right) {
		return refusal("the node's clock has jumped")
	}
	return nil
}

// jumped reports whether r is too far from the offset right, and if so has the
// clock looked at.
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

// Relied returns the time to judge by. While Gate returns nil it is the wall
// clock's. Otherwise it is the time that could be relied on last, carried on by the
// monotonic clock, until the clock can be relied on again. A node that starts in
// doubt carries on the time of its start.
func (w *Watch) Relied() time.Time {
	right := time.Duration(w.right.Load()) // first, as in Gate
	trouble := w.trouble.Load()
	r := w.read()
	if trouble != nil || w.jumped(r, right) {
		r.Wall = time.Duration(w.relied.Load()) + r.Mono
	}
	return time.Unix(0, int64(r.Wall))
}

// Jumped returns when the clock last jumped, by the clock as it is since then, and
// how long ago that was; ever is false if it has not. A jump may be a second older
// than it says, and one that is younger than a second may be known to Gate only.
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

// read reads both clocks. If the process was held up in between, it does so
// again: that would look like a jump.
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

// observe takes one reading and says what has changed by it.
func (w *Watch) observe() {
	r := w.read()
	r.Kernel = w.ask()
	jumps := w.judge.jumps
	trouble := w.judge.take(r)
	if w.judge.jumps > jumps {
		w.jump.Store(&r)
	}
	w.metrics.report(r, w.judge.drift(r), trouble == "", w.judge.jumps-jumps) // before Gate says so
	if trouble == "" {
		w.relied.Store(int64(r.offset())) // before Gate says so
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

// ask asks the kernel, and says when it gains or loses its time service.
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
