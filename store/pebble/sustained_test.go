package pebble_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// BenchmarkSustained writes as the writers of busy conversations do, and logs what each
// million messages cost: a store whose cost grows with what it holds does not show in a
// short run. One operation is a million messages, some 200 MB. -benchtime=50x takes a few
// minutes and a TMPDIR with 15 GB of room; decision 0022 has the figures.
func BenchmarkSustained(b *testing.B) {
	for _, w := range []sustained{
		{logs: 300, records: 7},
		{logs: 300, records: 7, dedup: true},
		{logs: 300, records: 150}, // as with 600 users and a window of 200
		{logs: 300, records: 150, dedup: true},
		{logs: 300, records: 150, zeros: true}, // as those of pim bench
		{logs: 100_000, records: 1},
		{logs: 100_000, records: 1, held: 5_000_000},
	} {
		b.Run(w.String(), func(b *testing.B) { w.run(b) })
	}
}

// sustained is a load: commits of up to 1,024 records, spread over logs.
type sustained struct {
	logs    int
	records int  // of one append
	dedup   bool // each record pushes an older one's ID into a cell, as in logs of more than 1,024
	zeros   bool // records compress to a fifteenth, and so tables are small
	held    int  // records that the store holds before the first slice
}

func (w sustained) String() string {
	s := fmt.Sprintf("logs=%d/records=%d", w.logs, w.records)
	switch {
	case w.dedup:
		s += "/dedup"
	case w.zeros:
		s += "/zeros"
	default:
		s += "/plain"
	}
	if w.held > 0 {
		s += fmt.Sprintf("/held=%d", w.held)
	}
	return s
}

const (
	sustainedCommitters = 2
	sustainedBatch      = 1024
	sustainedSlice      = 1_000_000
	sustainedRecord     = 160 // bytes
)

func (w sustained) run(b *testing.B) {
	s := open(b, b.TempDir(), pebble.Options{})
	defer closes(b, s)
	var writers []*sustainedWriter
	for c := range sustainedCommitters {
		writers = append(writers, newSustainedWriter(w, c))
	}
	write := func(records int) {
		var written atomic.Int64
		var running sync.WaitGroup
		for _, m := range writers {
			running.Go(func() {
				for written.Load() < int64(records) {
					n := m.next()
					if err := store.Commit(context.Background(), s, m.writes, store.Durable); err != nil {
						b.Error(err)
						return
					}
					written.Add(int64(n))
				}
			})
		}
		running.Wait()
	}
	write(w.held)
	begun, used := time.Now(), cpu()
	for b.Loop() {
		at, before, was := time.Now(), cpu(), s.Work()
		write(sustainedSlice)
		is := s.Work()
		b.Logf("%4.0f s %4.0f k msg/s %5.2f cpu-µs/msg, write amplification %4.1f (%4.1f in all), %s",
			time.Since(begun).Seconds(), sustainedSlice/1000/time.Since(at).Seconds(),
			float64((cpu()-before).Microseconds())/sustainedSlice, is.Minus(was).Amplification(), is.Amplification(), is)
	}
	b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N)/sustainedSlice, "cpu-µs/msg")
}

// sustainedWriter makes one committer's commits, with logs of its own.
type sustainedWriter struct {
	sustained
	committer int
	names     []store.Log
	users     [][2]store.Partition
	after     []pim.Seq
	at        int
	writes    []*store.Write
	noise     []byte
	rng       *rand.Rand
	line      []byte
}

func newSustainedWriter(w sustained, committer int) *sustainedWriter {
	n := w.logs / sustainedCommitters
	m := &sustainedWriter{
		sustained: w, committer: committer, after: make([]pim.Seq, n),
		noise: make([]byte, 8<<20), rng: rand.New(rand.NewPCG(1, uint64(committer))), line: make([]byte, 4),
	}
	// Half of a message is text, which compression halves, and half is IDs. With zeros, a
	// few bytes are IDs.
	for i := range m.noise {
		switch {
		case w.zeros && i%sustainedRecord >= 12:
		case i%2 == 0:
			m.noise[i] = byte(m.rng.Uint32())
		default:
			m.noise[i] = byte('a' + m.rng.IntN(16))
		}
	}
	for i := range n {
		u, v := fmt.Sprintf("user-%d-%d", committer, i), fmt.Sprintf("vser-%d-%d", committer, i)
		m.names = append(m.names, store.Log("d:"+u+":"+v))
		m.users = append(m.users, [2]store.Partition{store.Partition("inbox/" + u), store.Partition("inbox/" + v)})
	}
	for range sustainedBatch / w.records {
		m.writes = append(m.writes, &store.Write{Records: make([][]byte, w.records)})
	}
	return m
}

// next lays out the next commit and returns how many records it has.
func (m *sustainedWriter) next() (n int) {
	now := uint64(time.Now().UnixMilli())
	for _, w := range m.writes {
		m.at = (m.at + 7919) % len(m.after)
		w.Log, w.After, w.Cells = m.names[m.at], m.after[m.at], w.Cells[:0]
		for i := range w.Records {
			at := m.rng.IntN(len(m.noise)/sustainedRecord) * sustainedRecord
			w.Records[i] = m.noise[at : at+sustainedRecord]
			if m.dedup {
				var id [16]byte // as a UUIDv7
				binary.BigEndian.PutUint64(id[:], now<<16|m.rng.Uint64N(1<<16))
				binary.BigEndian.PutUint64(id[8:], m.rng.Uint64())
				w.Cells = append(w.Cells, store.CellWrite{
					Partition: store.Partition("dedup/" + w.Log), Lifetime: pim.DedupWindow,
					Cell: store.Cell{Key: string(id[:]), Version: uint64(w.After) + uint64(i) + 1},
				})
			}
		}
		m.after[m.at] += pim.Seq(len(w.Records))
		n += len(w.Records)
		for _, p := range m.users[m.at] {
			w.Cells = append(w.Cells, store.CellWrite{
				Partition: p, Cell: store.Cell{Key: string(w.Log), Version: uint64(m.after[m.at]), Value: m.line},
			})
		}
	}
	return n
}
