package gateway

import (
	"runtime"
	"testing"
	"time"
)

// Memory is trimmed when a share of it is spare and little is allocated: not on a busy node,
// and not more often than the cost of a trim allows.
func TestMemoryIsTrimmedWhenQuiet(t *testing.T) {
	const mb = 1 << 20
	begun := time.Unix(0, 0)
	var tr trimmer
	allocated, second := uint64(1), 0
	live := uint64(80 * mb)
	look := func(rate, spare uint64) bool {
		allocated += rate
		second++
		return tr.due(heapSize{allocated: allocated, live: live, spare: spare}, begun.Add(time.Duration(second)*time.Second))
	}
	for _, s := range []struct {
		what        string
		rate, spare uint64
		want        bool
	}{
		{"the first look knows no rate", 0, 40 * mb, false},
		{"busy", 5 * mb, 40 * mb, false},
		{"busy for long", 100 * mb, 80 * mb, false},
		{"quiet, and little to gain", mb, 9 * mb, false},
		{"quiet", mb, 11 * mb, true},
	} {
		if got := look(s.rate, s.spare); got != s.want {
			t.Errorf("%s: %v, want %v", s.what, got, s.want)
		}
	}
	trims := func(size uint64) (n int) {
		live = size
		for range 600 {
			if look(mb, size) {
				n++
				tr.trimmed(1000, heapSize{live: live}, begun.Add(time.Duration(second)*time.Second))
			}
		}
		return n
	}
	if n := trims(80 * mb); n != 60 {
		t.Errorf("%d times in 10 minutes, want 60", n)
	}
	if n := trims(2000 * mb); n < 3 || n > 4 {
		t.Errorf("%d times in 10 minutes with 2,000 MiB live, want 3 or 4", n)
	}
}

// A node that has few connections, and had few, leaves its memory to the runtime. One that
// had many trims once.
func TestFewConnectionsAreNotTrimmed(t *testing.T) {
	var tr trimmer
	for range 10 {
		tr.tick(trimFrom - 1)
	}
	if tr.samples != nil {
		t.Error("the heap was looked at for few connections")
	}
	tr.tick(trimFrom)
	tr.tick(0)
	if tr.samples == nil {
		t.Error("the heap was not looked at when many connections had gone")
	}
	tr.trimmed(0, heapSize{}, time.Now())
	if tr.most != 0 {
		t.Errorf("after that it goes by %d connections", tr.most)
	}
}

// The metrics of the runtime that the trimmer reads exist and say what it takes them for.
func TestHeapIsRead(t *testing.T) {
	runtime.GC()
	var tr trimmer
	before := tr.read()
	kept = make([]byte, 32<<20)
	after := tr.read()
	if after.allocated < before.allocated+32<<20 || after.live == 0 {
		t.Errorf("before %+v, and with 32 MiB more %+v", before, after)
	}
	kept = nil
}

var kept []byte
