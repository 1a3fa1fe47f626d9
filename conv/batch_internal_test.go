package conv

import (
	"testing"
	"unsafe"

	"github.com/pim-im/pim"
)

// A request takes one of Go's size classes of 352 bytes. There may be 65,536 of them waiting
// for each driver.
func TestRequestIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Request{}); n > 352 {
		t.Errorf("%d bytes", n)
	}
}

// use takes n batches out of the pool, fills each with 64 entries, and puts them back.
func (p *batchPool) use(n int) {
	var used []*batch
	for range n {
		b := p.get()
		for len(b.entries) < 64 {
			b.entries = append(b.entries, pim.Entry{})
		}
		used = append(used, b)
	}
	for _, b := range used {
		p.put(b)
	}
}

// A busy driver has nothing under way many times a second. It keeps the batches that it has
// needed, so that it allocates none for the next messages. A driver that is busy no more keeps few.
func TestBusyDriversKeepTheirBatches(t *testing.T) {
	var p batchPool
	p.use(16)
	p.shrink()
	if n := testing.AllocsPerRun(100, func() {
		p.use(16)
		p.shrink()
	}); n > 5 { // those of use
		t.Errorf("%v allocations for 16 batches", n)
	}
	for range 2 {
		p.use(1)
		p.shrink()
	}
	if p.room > idleBytes {
		t.Errorf("an idle driver keeps %d bytes", p.room)
	}
}
