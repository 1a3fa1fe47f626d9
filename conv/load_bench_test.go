package conv

import (
	"context"
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// accepting is an Outlet that wants every request to be accepted.
type accepting struct{ b testing.TB }

func (o accepting) Deliver(answers []Answer, _ []Published) {
	for _, a := range answers {
		if a.Err != nil {
			o.b.Error(a.Err)
		}
	}
}

// BenchmarkLoad loads conversations of 3,000 entries, each for the first time after a
// restart: go test -run '^$' -bench Load -benchtime 1000x ./conv. Without -benchtime it writes for minutes.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	const entries, batch = 3000, 50
	const together = maxUnanswered / batch // a driver refuses what exceeds its queue
	st := benchStore(b, dir)
	w := New(st, Options{Outlet: accepting{b}, Shards: 1})
	chat := func(i int) pim.ConversationID {
		return pim.Direct(pim.UserID(fmt.Sprint("ann", i)), pim.UserID(fmt.Sprint("bob", i)))
	}
	n := uint64(0)
	for j := 0; j < entries; j += batch {
		for i := range b.N {
			requests := make([]*Request, batch)
			for k := range requests {
				n++
				requests[k] = message(chat(i), pim.UserID(fmt.Sprint("ann", i)), n, pim.Millis(n))
				requests[k].Payload = make([]byte, 100)
			}
			w.Submit(requests)
			if i%together != together-1 && i != b.N-1 {
				continue
			}
			if err := w.Drain(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	w.Close()
	st.Close()
	st = benchStore(b, dir)
	defer st.Close()
	w = New(st, Options{Outlet: accepting{b}, Shards: 1})
	defer w.Close()
	b.ReportAllocs()
	b.ResetTimer()
	tail := 0
	for i := range b.N {
		l, err := w.load(context.Background(), chat(i))
		if err != nil || l.last != entries {
			b.Fatal(l.last, err)
		}
		tail += int(l.last - l.snapshot)
	}
	b.ReportMetric(float64(tail)/float64(b.N), "entries/load")
}

// A load takes few allocations for each entry behind the snapshot: those of its sender and its device,
// and here those of a strange client message ID.
func TestLoadAllocatesLittle(t *testing.T) {
	const entries = snapshotEvery - 6
	st := benchStore(t, t.TempDir())
	defer st.Close()
	w := New(st, Options{Outlet: accepting{t}, Shards: 1})
	defer w.Close()
	id := pim.Direct("ann", "bob")
	var requests []*Request
	for n := range uint64(entries) {
		r := message(id, "ann", n+1, pim.Millis(n+1))
		r.Payload = make([]byte, 100)
		requests = append(requests, r)
	}
	w.Submit(requests)
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(10, func() {
		if l, err := w.load(t.Context(), id); err != nil || l.last != entries || l.snapshot != 0 {
			t.Fatal(l, err)
		}
	})
	if each := n / entries; each > 4.5 {
		t.Errorf("%.0f allocations, %.1f for each of %d entries", n, each, entries)
	}
}

func benchStore(b testing.TB, dir string) store.Store {
	st, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return st
}
