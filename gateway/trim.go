package gateway

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A heap may double before it is collected, and free memory goes back to the system
// slowly: right for a busy node, and most of what an idle connection would cost. So
// while a node with many connections has little to do, what is no longer needed is
// collected, and given back, as soon as it is a share worth having. That also ends a
// wave of connections, whose handshakes leave garbage of about the size of what they
// set up, and grown stacks.

const (
	trimFrom = 500 // connections that there were since the last time: fewer hold little
	// trimShare is the share of what is live that is worth a collection.
	trimShare = 1.0 / 8
	// quietShare is how much of what is live may be allocated in a second by a node
	// that has little to do. Above it, the runtime's own pace is the right one.
	quietShare = 1.0 / 20
	// trimPause is between two collections at least, and a second for each trimRate
	// bytes that are live, which take a core some 10 ms. How long the last one took says
	// less: that grows with what else the machine does.
	trimPause = 10 * time.Second
	trimRate  = 10 << 20
)

// trimmer decides when memory is trimmed. The zero value is ready.
type trimmer struct {
	ticks     int
	most      int64 // connections since the last time
	allocated uint64
	notBefore time.Time
	samples   []metrics.Sample
}

// heap is what a trimmer goes by, in bytes.
type heap struct {
	allocated uint64 // since the process began
	live      uint64 // found by the last collection
	spare     uint64 // allocated since then, or free and not given back
}

// tick is called with every lookTick, and looks at the heap once a second.
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
func (t *trimmer) due(h heap, now time.Time) bool {
	before := t.allocated
	t.allocated = h.allocated
	share := func(x float64) uint64 { return uint64(float64(h.live) * x) }
	return before != 0 && h.allocated-before <= share(quietShare) && h.spare >= share(trimShare) && !now.Before(t.notBefore)
}

func (t *trimmer) trimmed(connections int64, h heap, at time.Time) {
	t.most = connections
	t.notBefore = at.Add(max(trimPause, time.Duration(h.live/trimRate)*time.Second))
}

func (t *trimmer) read() heap {
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
			return 0 // a runtime that does not tell
		}
		return t.samples[i].Value.Uint64()
	}
	h := heap{allocated: value(0), live: value(1)}
	if objects := value(2); objects > h.live {
		h.spare = objects - h.live
	}
	h.spare += value(3)
	return h
}
