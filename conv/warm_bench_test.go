package conv

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// countingReads counts the calls that read, and the records, cells and bytes that they return.
type countingReads struct {
	store.Store
	calls, rows, bytes atomic.Int64
}

func (s *countingReads) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	s.calls.Add(1)
	for i := range reads {
		for _, r := range reads[i].Records {
			s.rows.Add(1)
			s.bytes.Add(int64(len(r)))
		}
	}
	return err
}

func (s *countingReads) Get(ctx context.Context, gets []store.Get) error {
	s.calls.Add(1)
	return s.Store.Get(ctx, gets)
}

func (s *countingReads) List(ctx context.Context, p store.Partition, after string, most int) ([]store.Cell, error) {
	cells, err := s.Store.List(ctx, p, after, most)
	s.calls.Add(1)
	for _, c := range cells {
		s.rows.Add(1)
		s.bytes.Add(int64(len(c.Value)))
	}
	return cells, err
}

// takeOver has a second Writers take over conversations of 150 messages each. It loads them in time if warm is set, and the
// first Writers then write so many messages more to each. It returns what the first message of each one costs there, all together.
func takeOver(t testing.TB, chats int, warm bool, more int) (s *countingReads, took time.Duration, w *Writers) {
	const messages = 150
	s = &countingReads{Store: storetest.NewMemory()}
	o := Options{Outlet: handsOut{}, Shards: 1, Logger: slog.New(slog.DiscardHandler)}
	old := New(s, o)
	w = New(s, o)
	n := uint64(0)
	done := make(chan Answer, chats)
	send := func(w *Writers, chat int) {
		n++
		u := pim.UserID(fmt.Sprint("ann", chat))
		r := message(pim.Direct(u, "bob"), u, n, pim.MillisOf(time.Now()))
		r.ClientID, r.Payload, r.Origin = pim.NewClientMessageID(time.Now()), make([]byte, 100), done
		w.Submit([]*Request{r})
	}
	wait := func(answers int) {
		for range answers {
			if a := <-done; a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
	rounds := func(count int) {
		for range count {
			for chat := range chats {
				send(old, chat)
			}
			wait(chats)
		}
	}
	rounds(messages)
	if warm {
		w.Warm(t.Context(), old.Recent(t.Context(), func(pim.ConversationID) bool { return true }, chats))
	}
	rounds(more)
	old.Close()
	s.calls.Store(0)
	s.rows.Store(0)
	s.bytes.Store(0)
	began := time.Now()
	for chat := range chats {
		send(w, chat)
		wait(1)
	}
	return s, time.Since(began), w
}

// BenchmarkTakeOver says what the first message of a conversation costs at a node that has taken it over, without
// the store's own time: go test -run '^$' -bench TakeOver -benchtime 3x ./conv
func BenchmarkTakeOver(b *testing.B) {
	for _, c := range []struct {
		name string
		warm bool
		more int
	}{{"cold", false, 5}, {"warmed", true, 0}, {"warmed, and 5 messages since", true, 5}} {
		b.Run(c.name, func(b *testing.B) {
			var took time.Duration
			var calls, rows, bytes int64
			for range b.N {
				s, t, w := takeOver(b, 1000, c.warm, c.more)
				took += t
				calls, rows, bytes = calls+s.calls.Load(), rows+s.rows.Load(), bytes+s.bytes.Load()
				w.Close()
			}
			each := float64(b.N * 1000)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took.Microseconds())/each, "µs/first")
			b.ReportMetric(float64(calls)/each, "reads/first")
			b.ReportMetric(float64(rows)/each, "rows/first")
			b.ReportMetric(float64(bytes)/each, "bytes/first")
		})
	}
}

// The first message of a conversation that was warmed costs one read, although others have written since.
func TestTheFirstMessageOfAWarmedConversation(t *testing.T) {
	s, _, w := takeOver(t, 100, true, 3)
	defer w.Close()
	if calls, rows := s.calls.Load(), s.rows.Load(); calls != 100 || rows != 300 {
		t.Errorf("%d reads of %d rows, and not 100 of 300", calls, rows)
	}
}
