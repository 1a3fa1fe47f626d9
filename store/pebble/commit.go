package pebble

import (
	"encoding/binary"
	"errors"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// A commit compares the appends with their logs' ends, puts everything into one batch of
// Pebble's, applies that, has it synced unless its writes are relaxed, and calls done for each
// write.

// commit holds the writes that a committer carries out together.
type commit struct {
	queue  *queue // the ops' queue
	ops    []op
	passed []passed // the passing cells of all ops
	moves  uint64   // passing.moves before the generations of passed were looked up
	stream *stream  // for the chunks that are kept apart; nil until c has such a chunk

	// What c takes bytes from, see purge.go.
	erased [][]byte // keys
	trims  []keyRange
}

// passed is a passing cell that a commit writes. The cell's key has a number, the generation of
// its partition. A List may move the partition to the next generation while the commit is under
// way. Then the commit writes the cell again, see follow. passing.go says why there are
// generations.
type passed struct {
	cell       *store.CellWrite
	generation generation
}

// carryOut carries out c.
func (s *Store) carryOut(c *commit) {
	var err error
	if trouble := s.trouble(); trouble != nil {
		c.refuse(trouble)
	} else {
		c.queue.stall.enter() // before anything is read: a disk may be stuck in reads, too
		err = s.write(c)
		c.queue.stall.leave()
	}
	s.metrics.commits.Add(1)
	s.logs.release(c, err != nil)
	s.finish(c, err)
}

// refuse makes err the error of every op. It is called when nothing of c was applied.
func (c *commit) refuse(err error) {
	for i := range c.ops {
		c.ops[i].err = err
	}
}

// write applies c, and makes it durable unless its writes are relaxed. Every error that it
// returns was made by unknown; the error is the outcome of every op that has none yet.
func (s *Store) write(c *commit) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	release := s.forgets.RUnlock
	if c.forgetsOlder() {
		for i := range c.ops {
			_ = s.fillForgets(nil, c.ops[i].write) // reads from the disk what is read again while others wait
		}
		s.forgets.Lock()
		release = s.forgets.Unlock
	} else {
		s.forgets.RLock()
	}
	for i := range c.ops {
		o := &c.ops[i]
		if o.log != nil {
			o.err = s.compare(o)
		}
		others := len(c.passed)
		if o.err == nil {
			o.err = s.findPassing(c, o.write)
		}
		if o.err == nil && len(o.write.Erase) > 0 {
			o.err = s.fillErasures(batch, c, o.write, o.log.end)
		}
		if o.err == nil && o.write.Trim != 0 {
			o.err = s.fillTrim(batch, c, o.write, o.log.end)
		}
		if o.err == nil {
			o.err = s.fillForgets(batch, o.write)
		}
		if o.err != nil {
			c.passed = c.passed[:others]
		}
	}
	s.fill(batch, c)
	noting := len(c.erased)+len(c.trims) > 0
	if noting {
		s.fillNote(batch, c)
	}
	if batch.Empty() {
		release()
		return nil
	}
	begun := time.Now()
	defer func() { s.metrics.commitSeconds.Observe(time.Since(begun).Seconds()) }()
	s.logs.applying(c)
	err := s.apply(batch, c.stream)
	c.stream = nil
	if noting {
		s.purge.noted(s.age.mono())
	}
	if err == nil {
		err = s.follow(c)
	}
	release()
	if err != nil || c.queue.durability == store.Relaxed {
		return err
	}
	c.queue.syncing(c.weight())
	return s.fsync()
}

// compare is the compare of compare-and-append, and learns the end of the log for every write
// to it. The caller's commit has claimed the log.
func (s *Store) compare(o *op) error {
	st, w := o.log, o.write
	if !st.known {
		e, err := s.seekEnd(w.Log)
		if err != nil {
			return s.readError("write to "+string(w.Log), err)
		}
		s.logs.learn(st, e)
	}
	if e := st.end; w.Follows() && (e.last != w.After || e.fence != w.Fence) {
		return &store.ConflictError{Log: w.Log, Last: e.last, Fence: e.fence}
	}
	return w.CheckTrim(st.end.last)
}

// findPassing looks up the generations of w's passing cells and adds the cells to
// c.passed. After an error some of them may be there, and write takes them out again.
func (s *Store) findPassing(c *commit, w *store.Write) error {
	for i := range w.Cells {
		cell := &w.Cells[i]
		if !cell.Partition.Passing() || cell.Version == 0 {
			continue
		}
		if len(c.passed) == 0 {
			c.moves = s.passing.moves.Load() // before the first look-up, see follow
		}
		g, err := s.generation(cell.Partition)
		if err != nil {
			return s.readError("write to "+string(cell.Partition), err)
		}
		c.passed = append(c.passed, passed{cell, g})
	}
	return nil
}

// fill puts the ops without an error into b. Most of a commit's CPU time goes into
// finding each key's place in the memtable. Sorting the keys first, so that one
// place leads to the next, was tried: it saves 5 % at most.
func (s *Store) fill(b *crdb.Batch, c *commit) {
	for i := range c.ops {
		o := &c.ops[i]
		if o.err != nil {
			continue
		}
		if len(o.write.Records) > 0 {
			s.fillLog(b, c, o.write)
		}
		if o.write.Raise {
			fillFence(b, o.write.Log, o.log.end.after(o.write))
		}
		for j := range o.write.Cells {
			s.fillCell(b, c, &o.write.Cells[j])
		}
	}
	s.fillPassing(b, c)
}

func (s *Store) fillLog(b *crdb.Batch, c *commit, w *store.Write) {
	last := w.After
	for rest := w.Records; len(rest) > 0; {
		n, size := nextChunk(rest)
		last += pim.Seq(n)
		if size < s.separateBytes || !s.takeStream(c) {
			d := b.SetDeferred(logKeyLen(w.Log), size)
			putLogKey(d.Key, w.Log, last)
			putChunk(d.Value, rest[:n])
			d.Finish() // fails only in a batch with an index
		} else {
			d := b.SetDeferred(logKeyLen(w.Log), referenceBytes)
			putLogKey(d.Key, w.Log, last)
			putReference(d.Value, c.stream.id, c.stream.next)
			d.Finish()
			d = b.SetDeferred(valueKeyBytes, size)
			putValueKey(d.Key, c.stream.id, c.stream.next)
			putChunk(d.Value, rest[:n])
			d.Finish()
			c.stream.next++
		}
		rest = rest[n:]
	}
}

// fillFence puts the fence of a log that is to be as e, and up to where it is trimmed, into b.
func fillFence(b *crdb.Batch, log store.Log, e end) {
	size := fenceBytes
	if e.trimmed != 0 {
		size = fenceTrimmedBytes
	}
	d := b.SetDeferred(logKeyLen(log), size)
	putLogKey(d.Key, log, fenceSeq)
	binary.BigEndian.PutUint64(d.Value, e.fence)
	if e.trimmed != 0 {
		binary.BigEndian.PutUint64(d.Value[fenceBytes:], uint64(e.trimmed))
	}
	d.Finish()
}

// The value under the key of a log's fence: the fence, and then, if the log was trimmed, up to
// which seq.
const (
	fenceBytes        = 8
	fenceTrimmedBytes = fenceBytes + seqBytes
)

// parseFence returns what fillFence has put into value.
func parseFence(value []byte) (fence uint64, trimmed pim.Seq, err error) {
	switch len(value) {
	case fenceTrimmedBytes:
		trimmed = pim.Seq(binary.BigEndian.Uint64(value[fenceBytes:]))
		if trimmed == 0 || trimmed == fenceSeq {
			return 0, 0, errMalformed("fence")
		}
	case fenceBytes:
	default:
		return 0, 0, errMalformed("fence")
	}
	return binary.BigEndian.Uint64(value), trimmed, nil
}

// takeStream gives c a stream for chunks that are kept apart, if it has none yet, and
// reports whether c has one.
func (s *Store) takeStream(c *commit) bool {
	if c.stream == nil {
		c.stream = s.streams.take()
	}
	return c.stream != nil
}

func (s *Store) fillCell(b *crdb.Batch, c *commit, w *store.CellWrite) {
	if w.Version == 0 || w.Partition.Passing() || forgetsOlder(w) {
		return
	}
	if w.Erase || w.Forget {
		c.erased = append(c.erased, appendCellKey(nil, w.Partition, w.Key))
	}
	if w.Forget {
		_ = b.Delete(c.erased[len(c.erased)-1], nil) // fails only in a batch with an index
		return
	}
	size := operandLen(w.Version, w.Value)
	if w.Lifetime == 0 {
		d := b.MergeDeferred(cellKeyLen(w.Partition, w.Key), size)
		putCellKey(d.Key, w.Partition, w.Key)
		putOperand(d.Value, w.Version, w.Value)
		d.Finish()
		return
	}
	bucket := bucketOf(s.age.now() + pim.Millis(w.Lifetime/time.Millisecond))
	s.buckets.add(bucket)
	d := b.MergeDeferred(expiringKeyLen(w.Partition, w.Key), size)
	putExpiringKey(d.Key, bucket, w.Partition, w.Key)
	putOperand(d.Value, w.Version, w.Value)
	d.Finish()
}

// forgetsOlder reports whether w forgets, of a partition that is not passing, a cell that may be newer.
func forgetsOlder(w *store.CellWrite) bool {
	return w.Forget && w.Version != 0 && w.Version != store.MaxVersion && !w.Partition.Passing()
}

// forgetsOlder reports whether a write of c forgets such cells.
func (c *commit) forgetsOlder() bool {
	for i := range c.ops {
		cells := c.ops[i].write.Cells
		for j := range cells {
			if forgetsOlder(&cells[j]) {
				return true
			}
		}
	}
	return false
}

// fillForgets puts the deletions of those cells into b that w forgets up to a version, and that are not newer. They
// come before all cells of the commit, so what it writes itself stays. The caller holds s.forgets, so nothing else
// is applied in between. If b is nil, the cells are only looked up.
func (s *Store) fillForgets(b *crdb.Batch, w *store.Write) error {
	for i := range w.Cells {
		c := &w.Cells[i]
		if !forgetsOlder(c) {
			continue
		}
		key := appendCellKey(nil, c.Partition, c.Key)
		var cell store.Cell
		if err := s.getAt(key, &cell); err != nil {
			return s.readError("write to "+string(c.Partition), err)
		}
		if b != nil && cell.Version != 0 && cell.Version <= c.Version {
			_ = b.Delete(key, nil) // fails only in a batch with an index
		}
	}
	return nil
}

// fillPassing puts c's passing cells into b.
func (s *Store) fillPassing(b *crdb.Batch, c *commit) {
	for i := range c.passed {
		w := &c.passed[i]
		fillAt(b, w.generation, w.cell)
	}
}

func fillAt(b *crdb.Batch, g generation, c *store.CellWrite) {
	size := operandLen(c.Version, c.Value)
	if c.Forget {
		size = forgetLen(c.Version)
	}
	d := b.MergeDeferred(passingKeyLen(c.Partition, c.Key), size)
	putPassingKey(d.Key, g, c.Partition, c.Key)
	if c.Forget {
		putForget(d.Value, c.Version)
	} else {
		putOperand(d.Value, c.Version, c.Value)
	}
	d.Finish() // fails only in a batch with an index
}

// weight returns what the pace counts for c: the records, and the writes without records. Ops
// with an error do not count.
func (c *commit) weight() (n int) {
	for i := range c.ops {
		if o := &c.ops[i]; o.err == nil {
			n += max(len(o.write.Records), 1)
		}
	}
	return n
}

// apply applies b, and gives back st, the stream of those chunks of b that are kept apart (nil:
// there are none). If it returns an error, nobody knows whether b was written.
func (s *Store) apply(b *crdb.Batch, st *stream) error {
	s.barrier.begun.Add(1)
	err := s.db.Apply(b, crdb.NoSync)
	s.barrier.ended.Add(1)
	if st != nil {
		s.streams.give(st)
	}
	return s.failed(err)
}

// follow is called when c was applied. If a partition has moved since findPassing, follow
// writes the passing cells of that partition again. A move that began after c was applied
// has taken c's cells along.
func (s *Store) follow(c *commit) error {
	for len(c.passed) > 0 {
		moves := s.passing.moves.Load()
		if moves == c.moves {
			return nil
		}
		c.moves = moves
		batch := s.db.NewBatch()
		for i := range c.passed {
			w := &c.passed[i]
			g, err := s.generation(w.cell.Partition)
			if err != nil {
				batch.Close()
				s.noteCorruption("write to "+string(w.cell.Partition), err)
				return unknown(err)
			}
			if g != w.generation {
				key := appendPassingKey(nil, w.generation, w.cell.Partition, w.cell.Key)
				if err := batch.Delete(key, nil); err != nil {
					batch.Close()
					return unknown(err)
				}
				w.generation = g
				fillAt(batch, g, w.cell)
			}
		}
		var err error
		if !batch.Empty() {
			err = s.apply(batch, nil)
		}
		batch.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// fsync makes durable what was applied before. It writes an empty record to the write-ahead
// log, because Pebble syncs only for a record. The record syncs the newest write-ahead log.
// Pebble syncs an older write-ahead log when it closes that log, before it begins the next.
func (s *Store) fsync() error {
	ended := s.barrier.ended.Load()
	err := s.failed(s.db.LogData(nil, crdb.Sync))
	if err == nil {
		s.barrier.note(ended)
	}
	return err
}

// failed returns the store's failure if there is one, and err otherwise. It makes either the
// error of writes that were under way, see unknown. Pebble's methods do not return a failure
// of the write-ahead log, see guard. The guard notes such a failure before the method returns,
// so if there is no note there was no failure.
func (s *Store) failed(err error) error {
	if failure := s.guard.failure(); failure != nil {
		err = failure
	}
	if err != nil {
		return unknown(err)
	}
	return nil
}

// unknown returns the error of writes that were under way when err happened. It has
// store.ErrUnknown in its chain.
func unknown(err error) error {
	kind := pim.KindUnavailable
	if isNoSpace(err) {
		kind = pim.KindDiskFull
	}
	return &pim.Error{
		Op: "commit", Kind: kind, Text: "the store failed while writing: " + err.Error(),
		Err: errors.Join(store.ErrUnknown, err),
	}
}

// finish calls done for all ops. The outcome of an op is its own error, or else err.
func (s *Store) finish(c *commit, err error) {
	for i := range c.ops {
		o := &c.ops[i]
		if o.err == nil {
			o.err = err
		}
		o.write.Err = o.err
		s.metrics.wrote(o.write)
		o.done(o.write)
	}
	s.leave(len(c.ops))
}
