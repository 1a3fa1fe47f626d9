package inbox_test

import (
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// BenchmarkSync measures a sync with nothing new: of a device that settled long ago,
// after messages that were acknowledged since, and after the store was opened again.
// Lines of other users surround the user's.
func BenchmarkSync(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprint(n, " conversations"), func(b *testing.B) {
			dir := b.TempDir()
			s := openQuietly(b, dir)
			for i := range 50 {
				user := pim.UserID(fmt.Sprintf("al%02d", i))
				message(b, s, user, 0, 1000, 1)
			}
			message(b, s, "alice", 0, n, 1)
			message(b, s, "alice", 0, n, 2)
			acknowledge(b, s, n, 2)
			req := inbox.SyncRequest{User: "alice", Device: "phone", Fronts: true}
			syncs := func(b *testing.B) {
				x := inbox.New(s)
				for range 2 { // folds, and settles
					syncsNothing(b, x, req)
				}
				for b.Loop() {
					syncsNothing(b, x, req)
				}
			}
			b.Run("settled", syncs)
			message(b, s, "alice", n/2, min(n, n/2+inbox.FoldAbove), 3)
			acknowledge(b, s, n, 3)
			b.Run("few fresh", syncs)
			message(b, s, "alice", 0, n, 4)
			acknowledge(b, s, n, 4)
			b.Run("all fresh before", syncs)
			for v := range 500 {
				message(b, s, "alice", 0, 1, pim.Seq(v+5))
			}
			acknowledge(b, s, 1, 504)
			b.Run("one very fresh", syncs)
			message(b, s, "alice", n/2, min(n, n/2+inbox.FoldAbove), 505)
			acknowledge(b, s, n, 505)
			s.Close()
			s = openQuietly(b, dir)
			defer func() { s.Close() }()
			b.Run("opened again", func(b *testing.B) {
				x := inbox.New(s)
				for b.Loop() {
					syncsNothing(b, x, req)
				}
			})
			b.Run("opened for each", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					s.Close()
					s = openQuietly(b, dir)
					b.StartTimer()
					syncsNothing(b, inbox.New(s), req)
				}
			})
		})
	}
}

// BenchmarkTellFronts measures what a trim writes for devices: of a group of 2,000 members, with two
// devices each. It says the CPU time, that of the store's own goroutines included.
func BenchmarkTellFronts(b *testing.B) {
	s := openQuietly(b, b.TempDir())
	defer s.Close()
	for i := range pim.MaxGroupMembers {
		u := pim.UserID(fmt.Sprintf("user%04d", i))
		cells := []store.CellWrite{
			{Partition: inbox.Members("g:x"), Cell: store.Cell{Key: string(u), Version: 1, Value: []byte{0, 1, 0}}},
			{Partition: inbox.Lines(u), Cell: inbox.Line{Newest: 9, Count: 9}.Cell("g:x")},
		}
		for _, device := range []string{"phone", "laptop"} {
			cells = append(cells, store.CellWrite{Partition: inbox.Settled(u), Cell: store.Cell{Key: device, Version: 3}})
		}
		if err := store.Commit(ctx, s, []*store.Write{{Cells: cells}}, store.Relaxed); err != nil {
			b.Fatal(err)
		}
	}
	before, front := cpuTime(b), pim.Seq(1)
	for b.Loop() {
		front++
		if err := inbox.TellFronts(ctx, s, "g:x", front); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

// cpuTime returns the CPU time that the process has taken.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func openQuietly(b *testing.B, dir string) *pebble.Store {
	s, err := pebble.Open(dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func syncsNothing(b *testing.B, x *inbox.Inbox, req inbox.SyncRequest) {
	if page, err := x.Sync(ctx, req); err != nil || len(page.Summaries) > 0 {
		b.Fatalf("%d conversations, %v", len(page.Summaries), err)
	}
}

// message writes, as a writer does, the lines of a message in each of the conversations
// from to to-1.
func message(b *testing.B, s store.Store, user pim.UserID, from, to int, newest pim.Seq) {
	for i := from; i < to; i++ {
		line := inbox.Line{Newest: newest, Count: uint64(newest)}.Cell(pim.ConversationID(fmt.Sprintf("g:%05d", i)))
		w := &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh(user), Cell: line}}}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Relaxed); err != nil {
			b.Fatal(err)
		}
	}
}

// acknowledge stores that alice's phone has acknowledged n conversations up to seq.
func acknowledge(b *testing.B, s store.Store, n int, seq pim.Seq) {
	acks := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	for i := 0; i < n; i += inbox.AckShare {
		var noted []inbox.Ack
		for j := i; j < min(n, i+inbox.AckShare); j++ {
			noted = append(noted, inbox.Ack{Conversation: pim.ConversationID(fmt.Sprintf("g:%05d", j)), Seq: seq})
		}
		acks.Note("alice", "phone", uint64(seq), noted)
		acks.Flush(ctx)
	}
	acks.Close()
}
