package pebble

import (
	"context"
	"errors"
	"fmt"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Hurried returns o with the rare cases made frequent: the watch looks all the time, only
// four logs are cached, short chunks are kept apart, levels are small, and purges follow each other.
func (o Options) Hurried() Options {
	o.watchInterval = time.Millisecond
	o.cachedLogs = 4
	o.separateBytes = 60
	o.fullFor = time.Millisecond
	o.levelBytes, o.purgeBytes = 256<<10, 100<<10
	setDefault(&o.PurgeEvery, 5*time.Millisecond)
	return o
}

// FullFor returns o with a disk that counts as full for d after an error for want of space.
func (o Options) FullFor(d time.Duration) Options {
	o.fullFor = d
	return o
}

// Sweep notes the age and drops expired cells, as sweepEvery does every ten minutes.
func (s *Store) Sweep() error { return errors.Join(s.noteAge(), s.sweep()) }

// Age returns the store's age.
func (s *Store) Age() time.Duration { return time.Duration(s.age.now()) * time.Millisecond }

// SetAge makes d the store's age.
func (s *Store) SetAge(d time.Duration) { s.age.before += pim.Millis(d/time.Millisecond) - s.age.now() }

// ForgetAge makes the store one of a version that noted no age.
func (s *Store) ForgetAge() error {
	s.health.set(hasFailed, pim.Errorf(pim.KindUnavailable, "so that Close notes none"))
	return s.db.Delete(ageKey, crdb.Sync)
}

// SetOperand gives a cell an operand of any version, as versions of pim before
// store.MaxVersion did.
func (s *Store) SetOperand(p store.Partition, key string, version uint64, value []byte) error {
	operand := make([]byte, operandLen(version, value))
	putOperand(operand, version, value)
	return s.db.Merge(appendCellKey(nil, p, key), operand, crdb.Sync)
}

// Flush writes the memtable out.
func (s *Store) Flush() error { return s.db.Flush() }

// Purge purges the files of erased bytes now, without rests. No other purge may be under way.
func (s *Store) Purge(ctx context.Context) error {
	s.purge.begin(s.age.mono() + s.purge.every)
	return s.purgeAll(ctx, 0)
}

// PurgeBadly is Purge without one of its parts.
func (s *Store) PurgeBadly(without string) error {
	ctx := context.Background()
	notes, ranges, err := s.readNotes(s.purge.number.Load())
	if without == "ranges" {
		ranges = nil
	}
	old, _ := s.files()
	err = errors.Join(err, s.flush(ctx))
	for _, r := range ranges {
		_, e := s.purgeTables(ctx, r, 0)
		err = errors.Join(err, e)
	}
	if without != "logs" {
		err = errors.Join(err, s.renewLogs(ctx), s.awaitDeletions(ctx, old))
	}
	return errors.Join(err, s.deleteNotes(notes))
}

// Compact compacts everything.
func (s *Store) Compact() error {
	return s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
}

// Keys returns how many keys begin with prefix.
func (s *Store) Keys(prefix byte) (n int) {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		panic(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}

// Format returns the version of the layout that the store says it has.
func (s *Store) Format() string {
	value, closer, err := s.db.Get([]byte{prefixFormat})
	if err != nil {
		panic(err)
	}
	defer closer.Close()
	return string(value)
}

// Generation returns the present generation of a passing partition.
func (s *Store) Generation(p store.Partition) int {
	g, err := s.generation(p)
	if err != nil {
		panic(err)
	}
	return int(g)
}

// Move moves a passing partition to its next generation, if that saves anything.
func (s *Store) Move(p store.Partition) { s.move(p) }

// ForgetGenerations empties the memory of generations.
func (s *Store) ForgetGenerations() {
	for i := range s.passing.parts {
		part := &s.passing.parts[i]
		part.mu.Lock()
		clear(part.of)
		part.mu.Unlock()
	}
}

// ListSteps is List of a passing partition, and counts the steps that it takes.
func (s *Store) ListSteps(p store.Partition, limit int) ([]store.Cell, int) {
	lower, upper := passingBounds(generation(s.Generation(p)), p, "")
	_, steps, err := s.listRange(lower, upper, passingKeyLen(p, ""), limit)
	if err != nil {
		panic(err)
	}
	cells, err := s.List(context.Background(), p, "", limit)
	if err != nil {
		panic(err)
	}
	return cells, steps
}

// SetFormat makes the store one of another layout.
func (s *Store) SetFormat(version string) error {
	return s.db.Set([]byte{prefixFormat}, []byte(version), crdb.Sync)
}

// Work is what Pebble has written so far, and the shape of what it holds.
type Work struct {
	Written, Logical uint64 // bytes: to the disk, and of the batches
	shape            string
}

// Minus returns the work since before.
func (w Work) Minus(before Work) Work {
	return Work{Written: w.Written - before.Written, Logical: w.Logical - before.Logical}
}

// Amplification is how many bytes were written to the disk for each byte of a batch.
func (w Work) Amplification() float64 { return float64(w.Written) / float64(max(w.Logical, 1)) }

func (w Work) String() string { return w.shape }

// Work returns the work done since Open.
func (s *Store) Work() Work {
	m := s.db.Metrics()
	w := Work{Written: writtenBytes(m), Logical: m.WAL.BytesIn}
	w.shape = fmt.Sprintf("L0 %d files %d deep,", m.Levels[0].TablesCount, m.Levels[0].Sublevels)
	for i := range m.Levels {
		if l := &m.Levels[i]; l.TablesCount > 0 {
			w.shape += fmt.Sprintf(" L%d %d MB", i, l.TablesSize>>20)
		}
	}
	w.shape += fmt.Sprintf(", %d compactions %d moves, debt %d MB", m.Compact.Count, m.Compact.MoveCount, m.Compact.EstimatedDebt>>20)
	return w
}

// TableBytes returns the size of all tables.
func (s *Store) TableBytes() (n int64) {
	m := s.db.Metrics()
	for i := range m.Levels {
		n += m.Levels[i].TablesSize
	}
	return n
}

// Tables returns the bounds of the tables that may hold keys with the given prefix.
func (s *Store) Tables(prefix byte) (bounds [][2][]byte) {
	levels, err := s.db.SSTables()
	if err != nil {
		panic(err)
	}
	for _, level := range levels {
		for _, t := range level {
			if t.Smallest.UserKey[0] <= prefix && t.Largest.UserKey[0] >= prefix {
				bounds = append(bounds, [2][]byte{t.Smallest.UserKey, t.Largest.UserKey})
			}
		}
	}
	return bounds
}

// TakeStreams takes all streams. giveBack gives them back.
func (s *Store) TakeStreams() (giveBack func()) {
	var taken []*stream
	for st := s.streams.take(); st != nil; st = s.streams.take() {
		taken = append(taken, st)
	}
	return func() {
		for _, st := range taken {
			s.streams.give(st)
		}
	}
}

// DropChunks drops all chunks that are kept apart.
func (s *Store) DropChunks() error {
	return s.db.DeleteRange([]byte{prefixValue}, []byte{prefixValue + 1}, crdb.Sync)
}

// SetChunk writes value under the key of log's chunk that ends at last.
func (s *Store) SetChunk(log store.Log, last pim.Seq, value []byte) error {
	return s.db.Set(appendLogKey(nil, log, last), value, crdb.Sync)
}

// WithSmallLevels returns o with more levels, and with purges of more compactions, than so few bytes
// take otherwise.
func (o Options) WithSmallLevels() Options {
	o.levelBytes, o.purgeBytes = 64<<10, 100<<10
	return o
}

// Unpurged reports whether there are erased bytes that are not purged.
func (s *Store) Unpurged() bool {
	s.purge.mu.Lock()
	defer s.purge.mu.Unlock()
	return s.purge.pending || s.purge.running
}

// PurgeIsDue reports whether the next look finds that a purge is due.
func (s *Store) PurgeIsDue() bool {
	s.purge.mu.Lock()
	defer s.purge.mu.Unlock()
	return s.purge.pending && s.age.mono() >= s.purge.due
}
