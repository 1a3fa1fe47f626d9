package pebble

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
)

// Bytes that were erased or trimmed stay in Pebble's files. A table keeps them until a compaction
// merges it with the newer table that replaces or deletes them, which in a cold part of the store
// never happens. The write-ahead log keeps them because Pebble uses its files again, and what
// stands behind the end of the new log stays.
//
// So a commit notes in its batch which ranges of keys it takes bytes from. A purge, at most one in
// Options.PurgeEvery, reads the notes and sees to it that no file holds the bytes any more; then it
// deletes the notes. If it is interrupted, the notes are still there, and the next purge begins
// again. A range that is done costs nothing the second time.
//
// A range is done when what was written before the purge lies in one level of the database. Levels
// other than the first hold a key once: nobody takes snapshots, so a flush or a compaction that
// meets two versions of a key drops the older one, and what a deletion covers.

// purge says when the next purge is due.
type purge struct {
	every  time.Duration
	bytes  uint64        // of tables that are compacted at once, about
	number atomic.Uint64 // of the last note

	mu      sync.Mutex
	running bool          // a purge is under way
	taken   time.Duration // if running: when the oldest note that the purge took was written
	pending bool          // there are notes that no purge has taken
	since   time.Duration // if pending: when the oldest of them was written; before Open counts as Open
	due     time.Duration // if pending: when the next purge begins
}

// noted notes that a note was applied at now. It must not be called before: a purge that
// begins takes the notes that are applied, and what noted says after that leads to another purge.
func (p *purge) noted(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pending {
		p.pending, p.since, p.due = true, now, now+p.every
	}
}

// begin reports whether a purge is due at now. If so, the caller purges, and then calls end.
func (p *purge) begin(now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pending || now < p.due {
		return false
	}
	p.running, p.taken, p.pending = true, p.since, false
	return true
}

// end says that the purge has ended. If it has failed, the next one is due later.
func (p *purge) end(now time.Duration, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = false
	if failed {
		p.pending, p.since, p.due = true, p.taken, now+p.every
	}
}

// waiting returns for how long the oldest note has been there whose ranges are not purged.
func (p *purge) waiting(now time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.running:
		return now - p.taken
	case p.pending:
		return now - p.since
	default:
		return 0
	}
}

// keyRange is a range of Pebble's keys, from first to last.
type keyRange struct{ first, last []byte }

// nearby: two chunks of one log, or of one stream, whose numbers differ by at most so much are
// noted as one range. Others between them are purged along.
const nearby = 256

// numbered reports whether key ends with a number by which it is ordered among the keys that
// differ from it only there.
func numbered(key []byte) bool { return key[0] == prefixLog || key[0] == prefixValue }

// extends reports whether r, whose keys are all noted, may be extended to key.
func (r *keyRange) extends(key []byte) bool {
	n := len(key) - 8
	return numbered(key) && len(r.last) == len(key) && bytes.Equal(r.last[:n], key[:n]) &&
		binary.BigEndian.Uint64(key[n:])-binary.BigEndian.Uint64(r.last[n:]) <= nearby
}

// rangesOf returns ranges that hold keys, which it sorts.
func rangesOf(keys [][]byte) (ranges []keyRange) {
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range keys {
		if n := len(ranges); n > 0 && (bytes.Equal(ranges[n-1].last, key) || ranges[n-1].extends(key)) {
			ranges[n-1].last = key
		} else {
			ranges = append(ranges, keyRange{key, key})
		}
	}
	return ranges
}

// merge sorts ranges and puts together those that overlap.
func merge(ranges []keyRange) []keyRange {
	slices.SortFunc(ranges, func(a, b keyRange) int {
		return cmp.Or(bytes.Compare(a.first, b.first), bytes.Compare(b.last, a.last))
	})
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n == 0 || bytes.Compare(merged[n-1].last, r.first) < 0 {
			merged = append(merged, r)
		} else if bytes.Compare(merged[n-1].last, r.last) < 0 {
			merged[n-1].last = r.last
		}
	}
	return merged
}

// fillNote puts a note of what c takes bytes from into b. Two notes have never the same key, so a
// purge that deletes the notes which it has read deletes no others.
func (s *Store) fillNote(b *crdb.Batch, c *commit) {
	var value []byte
	for _, r := range append(c.trims, rangesOf(c.erased)...) {
		for _, key := range [][]byte{r.first, r.last} {
			value = append(binary.AppendUvarint(value, uint64(len(key))), key...)
		}
	}
	_ = b.Set(noteKey(s.purge.number.Add(1)), value, nil) // fails only in a batch with an index
}

// parseNote returns the ranges of a note.
func parseNote(value []byte) (ranges []keyRange, err error) {
	for len(value) > 0 {
		var keys [2][]byte
		for i := range keys {
			size, n := binary.Uvarint(value)
			if n <= 0 || size == 0 || size > uint64(len(value)-n) {
				return nil, errMalformed("note of what was erased")
			}
			keys[i], value = bytes.Clone(value[n:n+int(size)]), value[n+int(size):]
		}
		ranges = append(ranges, keyRange{keys[0], keys[1]})
	}
	return ranges, nil
}

// findNotes finds the number of the last note. If there is one, a purge is due: an earlier one was
// interrupted, or the store was closed before it began.
func (s *Store) findNotes() error {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: noteKey(0), UpperBound: []byte{prefixNote + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	if it.Last() {
		if len(it.Key()) != noteKeyBytes {
			return errMalformed("key of a note of what was erased")
		}
		s.purge.number.Store(binary.BigEndian.Uint64(it.Key()[1:]))
		now := s.age.mono()
		s.purge.pending, s.purge.since, s.purge.due = true, now, now
	}
	return it.Error()
}

const (
	purgeNotes = 1 << 14 // that are read at once
	// A purge rests after each compaction for purgeRest times as long as that took.
	purgeRest = 4
	// purgePatience is for how long a purge waits for files to be deleted. Pebble deletes a table
	// when the last reader of it has ended.
	purgePatience = 10 * time.Second
)

// purgeWhenDue purges, whenever that is due, until the store is closed.
func (s *Store) purgeWhenDue(look time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.workers.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if s.trouble() != nil {
				continue
			}
			if s.purge.begin(s.age.mono()) {
				if err := s.purgeAll(ctx, purgeRest); err != nil && ctx.Err() == nil {
					s.log.Warn("store: erased bytes may still be in its files; the next purge tries again", "err", err, "in", s.purge.every)
				}
			}
		}
	}
}

// purgeAll purges the ranges of the notes that were there when the purge began. Those that come
// meanwhile are for the next purge: this one would not end while something is erased all the time.
// After an error some notes are left.
func (s *Store) purgeAll(ctx context.Context, rest int) (err error) {
	defer func() { s.purge.end(s.age.mono(), err != nil) }()
	if err := s.enter(1); err != nil {
		return err
	}
	defer s.leave(1)
	begun, written, count := time.Now(), uint64(0), 0
	last := s.purge.number.Load() // begin was called before: whoever writes a later note calls noted after that
	for err == nil {
		var notes [][]byte
		var ranges []keyRange
		if notes, ranges, err = s.readNotes(last); err != nil || len(notes) == 0 {
			break
		}
		var n uint64
		n, err = s.purgeRanges(ctx, ranges, rest)
		if written, count = written+n, count+len(ranges); err == nil {
			err = s.deleteNotes(notes)
		}
	}
	if err != nil {
		return err
	}
	s.metrics.purges.Add(1)
	if count > 0 {
		s.log.Info("store: purged its files of erased bytes", "ranges", count, "bytes_compacted", written, "took", time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// readNotes returns the keys of some notes up to the number last, and their ranges, merged.
func (s *Store) readNotes(last uint64) (notes [][]byte, ranges []keyRange, err error) {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: noteKey(0), UpperBound: noteKey(last + 1)})
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	for ok := it.First(); ok && len(notes) < purgeNotes; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, err
		}
		some, err := parseNote(value)
		if err != nil {
			return nil, nil, err
		}
		notes, ranges = append(notes, bytes.Clone(it.Key())), append(ranges, some...)
	}
	return notes, merge(ranges), it.Error()
}

func (s *Store) deleteNotes(notes [][]byte) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	for _, key := range notes {
		_ = batch.Delete(key, nil) // fails only in a batch with an index
	}
	return s.apply(batch, nil)
}

// purgeRanges sees to it that no file holds what was erased from ranges. It returns about how many
// bytes were compacted.
func (s *Store) purgeRanges(ctx context.Context, ranges []keyRange, rest int) (written uint64, err error) {
	old, err := s.files()
	if err == nil {
		err = s.flush(ctx)
	}
	for i := 0; i < len(ranges) && err == nil; i++ {
		var n uint64
		n, err = s.purgeTables(ctx, ranges[i], rest)
		written += n
	}
	if err == nil {
		err = s.renewLogs(ctx)
	}
	if err == nil {
		err = s.awaitDeletions(ctx, old)
	}
	return written, err
}

// flush writes the memtable out, and begins another file of the write-ahead log.
func (s *Store) flush(ctx context.Context) error {
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	return await(ctx, flushed)
}

// purgeTables compacts the tables that overlap with r, some after others, until r is done. The
// memtable was written out before.
func (s *Store) purgeTables(ctx context.Context, r keyRange, rest int) (written uint64, err error) {
	for {
		begun := time.Now()
		part, size, done, err := s.nextPart(r)
		if err == nil && !done {
			err = s.compact(ctx, part)
			written += size
			s.metrics.purgedBytes.Add(size)
		}
		if err == nil {
			err = pause(ctx, time.Duration(rest)*time.Since(begun))
		}
		if err != nil {
			return written, err
		}
		if bytes.Equal(part.last, r.last) {
			return written, nil
		}
		r.first = after(part.last)
	}
}

// nextPart returns the first part of r that should be compacted at once, the size of the tables
// that overlap with it, and whether the part is done already.
func (s *Store) nextPart(r keyRange) (part keyRange, size uint64, done bool, err error) {
	levels, err := s.tables(r)
	if err != nil {
		return keyRange{}, 0, false, err
	}
	tables := slices.Concat(levels...)
	slices.SortFunc(tables, func(a, b crdb.SSTableInfo) int { return bytes.Compare(a.Largest.UserKey, b.Largest.UserKey) })
	part = r
	for i := range tables {
		size += tables[i].Size
		if end := tables[i].Largest.UserKey; size >= s.purge.bytes && bytes.Compare(end, r.last) < 0 {
			part.last = end
			break
		}
	}
	holding := 0
	for level := range levels {
		inPart := slices.ContainsFunc(levels[level], func(t crdb.SSTableInfo) bool {
			return bytes.Compare(t.Smallest.UserKey, part.last) <= 0
		})
		if inPart && level == 0 {
			holding++ // its tables may overlap with each other
		}
		if inPart {
			holding++
		}
	}
	return part, size, holding <= 1, nil
}

// tables returns the tables that overlap with r, by level.
func (s *Store) tables(r keyRange) ([][]crdb.SSTableInfo, error) {
	return s.db.SSTables(crdb.WithKeyRangeFilter(r.first, after(r.last)))
}

// after returns the first key behind key.
func after(key []byte) []byte { return append(bytes.Clone(key), 0) }

// compact compacts until what was written to r before lies in one level. A compaction of Pebble's
// takes what is in r down from level to level, ending below the deepest one that holds any of r
// when it begins. Only if others have moved tables further down meanwhile, the older versions may be
// in these.
func (s *Store) compact(ctx context.Context, r keyRange) error {
	for {
		before, err := s.deepest(r)
		if err == nil {
			err = s.db.Compact(ctx, r.first, after(r.last), false)
		}
		if err != nil {
			return err
		}
		if now, err := s.deepest(r); err != nil || now <= before+1 {
			return err
		}
	}
}

// deepest returns the deepest level with a table that overlaps with r.
func (s *Store) deepest(r keyRange) (level int, err error) {
	levels, err := s.tables(r)
	for i := range levels {
		if len(levels[i]) > 0 {
			level = i
		}
	}
	return level, err
}

// renewLogs deletes the files that the write-ahead log has now: the newest, and those that Pebble
// keeps to use them again, which are memTables+1 at most. Each flush begins a new file, and would use
// the oldest of those that are kept. The guard deletes it instead.
func (s *Store) renewLogs(ctx context.Context) error {
	s.guard.renew.Store(true)
	defer s.guard.renew.Store(false)
	old, err := s.files()
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(name string) bool { return !isLog(name) })
	for range memTables + 2 {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	return s.awaitDeletions(ctx, old)
}

func isLog(name string) bool { return filepath.Ext(name) == ".log" }

// files returns the names of the tables' and the write-ahead log's files.
func (s *Store) files() ([]string, error) {
	names, err := s.fs.List(s.dir)
	return slices.DeleteFunc(names, func(name string) bool { return !isLog(name) && !table(name) }), err
}

// awaitDeletions waits until of the files old only tables are left that are in use.
func (s *Store) awaitDeletions(ctx context.Context, old []string) error {
	begun := time.Now()
	for {
		levels, err := s.db.SSTables()
		if err != nil {
			return err
		}
		used := make(map[string]bool)
		for _, t := range slices.Concat(levels...) {
			used[fmt.Sprintf("%s.sst", t.BackingSSTNum)] = true
		}
		left, err := s.files()
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(name string) bool { return used[name] || !slices.Contains(old, name) })
		switch {
		case len(left) == 0:
			return nil
		case time.Since(begun) > purgePatience:
			return pim.Errorf(pim.KindUnavailable, "files that are not in use are still there: %s", strings.Join(left, " "))
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits for d, or until ctx ends and then returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
