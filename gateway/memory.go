package gateway

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// A watermark knows whether the node's memory is above its bound. What counts is what the last
// collection found alive, and stacks. All that is allocated would rise to twice that and fall
// again with each collection.
type watermark struct {
	above      atomic.Bool
	looked     int64       // when, see Gateway.elapsed
	collected  int64       // when the watermark last had garbage collected
	collecting atomic.Bool // a goroutine collects
}

const (
	watermarkLook = time.Second
	// While no connection is let in, little may be allocated, so the runtime may not find
	// out for two minutes that memory is free again. The watermark has it look.
	watermarkCollect = 10 * time.Second
	// Memory is below the bound again when this share of it is free.
	watermarkFree = 1.0 / 16
)

// tick must be called every lookTick, at now. live returns the bytes in use; bound is how
// many there may be, 0 for no bound. start runs what it is given in another goroutine, or reports
// that it does not: a collection may take long, and tick does not wait for it.
func (w *watermark) tick(live func() uint64, bound uint64, now int64, start func(func()) bool) {
	if bound == 0 || w.looked != 0 && now-w.looked < watermarkLook.Milliseconds() {
		return
	}
	w.looked = now
	if w.above.Load() {
		if now-w.collected >= watermarkCollect.Milliseconds() && w.collecting.CompareAndSwap(false, true) {
			w.collected = now
			if !start(w.collect) {
				w.collecting.Store(false)
			}
		}
		bound -= uint64(float64(bound) * watermarkFree)
	}
	above := live() > bound
	if above && !w.above.Load() {
		w.collected = now // live is what a collection has just found
	}
	w.above.Store(above)
}

func (w *watermark) collect() {
	defer w.collecting.Store(false)
	runtime.GC()
}

// Room returns how many bytes of memory further connections may take: what Limits.Memory leaves, 0 while nobody is let in
// because of it, and math.MaxInt64 if there is no bound.
func (g *Gateway) Room() int64 {
	switch {
	case g.Limits.Memory == 0:
		return math.MaxInt64
	case g.memory.above.Load():
		return 0
	}
	return max(int64(min(g.Limits.Memory, math.MaxInt64))-int64(g.Live()), 0)
}

// liveMemory returns the bytes of memory that are in use by this process, garbage left out.
func liveMemory() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	sum := uint64(0)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
