package pebble_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// BenchmarkCommit measures the CPU time that the store takes for a message of a
// direct conversation: one record of 160 bytes and two cells. One operation is one
// message. The settings in options.go are tuned by it, so it counts everything the
// process does, flushes and compactions included. Use -benchtime=300000x or more, so
// that these happen.
func BenchmarkCommit(b *testing.B) {
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			benchmarkCommit(b, pebble.Options{}, batch, 20_000)
		})
	}
	b.Run("batch=256/no disk", func(b *testing.B) {
		benchmarkCommit(b, pebble.Options{FS: vfs.NewMem()}, 256, 20_000)
	})
}

func benchmarkCommit(b *testing.B, o pebble.Options, batch, conversations int) {
	s := open(b, b.TempDir(), o)
	m := newMessages(batch, conversations)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for n := 0; n < b.N; n += batch {
		if err := store.Commit(ctx, s, m.next(), store.Durable); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	report(b, "cpu-µs/msg", cpu()-before)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkParallelCommit is BenchmarkCommit with several committers, which
// share Pebble's fsyncs.
func BenchmarkParallelCommit(b *testing.B) {
	const committers = 4
	for _, batch := range []int{1, 32} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := open(b, b.TempDir(), pebble.Options{})
			b.ResetTimer()
			before := cpu()
			var running sync.WaitGroup
			for c := range committers {
				running.Go(func() {
					m := newMessages(batch, 5000)
					m.prefix = fmt.Sprint("c", c)
					for n := 0; n < b.N; n += batch * committers {
						if err := store.Commit(context.Background(), s, m.next(), store.Durable); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			running.Wait()
			b.StopTimer()
			report(b, "cpu-µs/msg", cpu()-before)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// messages makes commits of messages of direct conversations, with little work of its
// own.
type messages struct {
	prefix string
	after  []pim.Seq
	at     int
	writes []*store.Write
	record []byte
	line   []byte
}

func newMessages(batch, conversations int) *messages {
	m := &messages{after: make([]pim.Seq, conversations), record: make([]byte, 160), line: make([]byte, 3)}
	for i := range m.record {
		m.record[i] = byte('a' + i*i%23)
	}
	for range batch {
		m.writes = append(m.writes, &store.Write{Records: [][]byte{m.record}, Cells: make([]store.CellWrite, 2)})
	}
	return m
}

func (m *messages) next() []*store.Write {
	for _, w := range m.writes {
		// The stride is coprime to the number of conversations, so it visits all of them.
		m.at = (m.at + 7919) % len(m.after)
		a, b := fmt.Sprintf("%suser%d", m.prefix, m.at), fmt.Sprintf("%svser%d", m.prefix, m.at)
		id := "d:" + a + ":" + b
		w.Log, w.After = store.Log(id), m.after[m.at]
		m.after[m.at]++
		for i, u := range [2]string{a, b} {
			w.Cells[i] = store.CellWrite{
				Partition: store.Partition("inbox/" + u),
				Cell:      store.Cell{Key: id, Version: uint64(m.after[m.at]), Value: m.line},
			}
		}
	}
	return m.writes
}

// cpu returns the CPU time that the process has taken.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, unit string, used time.Duration) {
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), unit)
}
