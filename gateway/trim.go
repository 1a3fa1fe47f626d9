package gateway

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime lets a heap double before it collects garbage, and gives free memory back to
// the system slowly. That is right for a busy node, but it would be most of what an idle
// connection costs. So while a node with many connections has little to do, the trimmer
// collects garbage and gives memory back as soon as it is a share worth having. That also
// cleans up after a wave of connections: their handshakes leave grown stacks, and about as
// much garbage as they set up.

const (
	trimFrom = 500 // most connections since the last trim; fewer hold little
	// trimShare is how much spare memory is worth a collection, as a share of the live
	// heap.
	trimShare = 1.0 / 8
	// quietShare is how much a node that has little to do allocates in a second, at most,
	// as a share of the live heap. Above it, the runtime's own pace is the right one.
	quietShare = 1.0 / 20
	// Between two trims there is at least trimPause, and at least a second for each
	// trimRate bytes of the live heap, which take a core some 10 ms to collect. How long
	// the last trim took says less: that grows with what else the machine does.
	trimPause = 10 * time.Second
	trimRate  = 10 << 20
)

// trimmer decides when memory is trimmed. The zero value is ready.
type trimmer struct {
	ticks     int
	most      int64     // connections at a time since the last trim
	allocated uint64    // heap.allocated at the last look; 0: there was none
	notBefore time.Time // of the next trim
	samples   []metrics.Sample
}

// heapSize is what a trimmer goes by, in bytes.
type heapSize struct {
	allocated uint64 // since the process began
	live      uint64 // found by the last collection
	spare     uint64 // allocated since then, or free and not given back
}

// tick must be called every lookTick. It looks at the heap once a second.
func (t *trimmer) tick(connections int64) {
	t.most = max(t.most, connections)
	if t.ticks++; t.most < trimFrom || t.ticks%int(time.Second/lookTick) != 0 {
		return
	}
	if h, now := t.read(), time.Now(); t.due(h, now) {
		debug.FreeOSMemory()
		t.trimmed(connections, h, now)
	}
}

// due reports whether the memory is to be trimmed; it is called once a second.
func (t *trimmer) due(h heapSize, now time.Time) bool {
	before := t.allocated
	t.allocated = h.allocated
	share := func(x float64) uint64 { return uint64(float64(h.live) * x) }
	return before != 0 && h.allocated-before <= share(quietShare) && h.spare >= share(trimShare) && !now.Before(t.notBefore)
}

func (t *trimmer) trimmed(connections int64, h heapSize, at time.Time) {
	t.most = connections
	t.notBefore = at.Add(max(trimPause, time.Duration(h.live/trimRate)*time.Second))
}

func (t *trimmer) read() heapSize {
	if t.samples == nil {
		for _, name := range []string{
			"/gc/heap/allocs:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes",
		} {
			t.samples = append(t.samples, metrics.Sample{Name: name})
		}
	}
	metrics.Read(t.samples)
	value := func(i int) uint64 {
		if t.samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // the runtime has no such metric
		}
		return t.samples[i].Value.Uint64()
	}
	h := heapSize{allocated: value(0), live: value(1)}
	if objects := value(2); objects > h.live {
		h.spare = objects - h.live
	}
	h.spare += value(3)
	return h
}
