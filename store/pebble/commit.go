package pebble

import (
	"context"
	"errors"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// commit is one Commit under way.
type commit struct {
	ops    []op
	passed []passed // the passing cells of all ops
	turns  uint64   // passing.turns before the generations of passed were looked up
	stream *stream  // for the chunks that are kept apart; nil until there is such a chunk
}

// op is one write of a commit.
type op struct {
	write *store.Write
	log   *logState // claimed for its append; nil: not claimed
	err   error
}

func (s *Store) newCommit(writes []*store.Write) *commit {
	c, _ := s.commits.Get().(*commit)
	if c == nil {
		c = new(commit)
	}
	for _, w := range writes {
		c.ops = append(c.ops, op{write: w})
	}
	return c
}

// Commit implements store.Store. All writes are one batch of Pebble's and one fsync.
// Concurrent Commits share fsyncs, see syncs; for that a Commit may wait up to
// companyWait. If ctx ends while the Commit waits for another Commit to the same log,
// the Commit ends. Once it has begun to write it goes on, so that its outcome is known.
func (s *Store) Commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	c := s.newCommit(writes)
	err := s.begin()
	if err == nil {
		err = s.commit(ctx, c, d)
		s.end()
	}
	if err != nil {
		c.fail(err)
	}
	return s.finish(c)
}

// commit carries out c's ops. The error that it returns is the outcome of every op
// that has no error of its own.
func (s *Store) commit(ctx context.Context, c *commit, d store.Durability) error {
	for i := range c.ops {
		c.ops[i].err = c.ops[i].write.Check(d)
	}
	if err := s.claim(ctx, c); err != nil {
		return err
	}
	for i := range c.ops {
		if o := &c.ops[i]; o.log != nil {
			o.err = s.compare(o)
		}
	}
	for i := range c.ops {
		if o := &c.ops[i]; o.err == nil {
			o.err = s.findPassing(c, o.write)
		}
	}
	batch := s.db.NewBatch()
	defer batch.Close()
	s.fill(batch, c)
	if batch.Empty() {
		s.logs.release(c, false)
		return nil
	}
	s.logs.applying(c)
	err := s.apply(batch, c.stream, d, c.records())
	c.stream = nil
	s.logs.release(c, err != nil)
	if err != nil {
		return err
	}
	return s.follow(c, func(b *crdb.Batch) error { return s.apply(b, nil, d, 0) })
}

// claim waits until c owns the logs that it appends to.
func (s *Store) claim(ctx context.Context, c *commit) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.refusal(); err != nil {
			return err
		}
		wait := s.logs.claim(c)
		if wait == nil {
			return nil
		}
		if err := await(ctx, wait); err != nil {
			return err
		}
	}
}

// compare is the compare of compare-and-append. The op's commit owns the log.
func (s *Store) compare(o *op) error {
	st, w := o.log, o.write
	if !st.known {
		last, err := s.seekLast(w.Log)
		if err != nil {
			return s.readError("append to "+string(w.Log), err)
		}
		s.logs.learn(st, last)
	}
	if st.last != w.After {
		return &store.ConflictError{Log: w.Log, Last: st.last}
	}
	return nil
}

// fill puts the ops without an error into b. Most of a commit's CPU time goes into
// finding each key's place in the memtable. Sorting the keys first, so that one
// place leads to the next, was tried: it saves 5 % at the most.
func (s *Store) fill(b *crdb.Batch, c *commit) {
	for i := range c.ops {
		o := &c.ops[i]
		if o.err != nil {
			continue
		}
		if len(o.write.Records) > 0 {
			s.fillLog(b, c, o.write)
		}
		for j := range o.write.Cells {
			s.fillCell(b, &o.write.Cells[j])
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

// takeStream gives c a stream for chunks that are kept apart, if it has none yet, and
// reports whether c has one.
func (s *Store) takeStream(c *commit) bool {
	if c.stream == nil {
		c.stream = s.streams.take()
	}
	return c.stream != nil
}

func (s *Store) fillCell(b *crdb.Batch, c *store.CellWrite) {
	if c.Version == 0 || c.Partition.Passing() {
		return
	}
	size := operandLen(c.Version, c.Value)
	if c.Lifetime == 0 {
		d := b.MergeDeferred(cellKeyLen(c.Partition, c.Key), size)
		putCellKey(d.Key, c.Partition, c.Key)
		putOperand(d.Value, c.Version, c.Value)
		d.Finish()
		return
	}
	bucket := bucketOf(s.age.now() + pim.Millis(c.Lifetime/time.Millisecond))
	s.buckets.add(bucket)
	d := b.MergeDeferred(expiringKeyLen(c.Partition, c.Key), size)
	putExpiringKey(d.Key, bucket, c.Partition, c.Key)
	putOperand(d.Value, c.Version, c.Value)
	d.Finish()
}

// records returns how many records c appends.
func (c *commit) records() (n int) {
	for i := range c.ops {
		if o := &c.ops[i]; o.err == nil {
			n += len(o.write.Records)
		}
	}
	return n
}

// apply applies b, which appends so many records, and gives back st, the stream of b's
// chunks that are kept apart. If d is Durable, it waits until b is durable. After an error
// nobody knows whether b is durable.
func (s *Store) apply(b *crdb.Batch, st *stream, d store.Durability, records int) error {
	start := time.Now()
	s.stall.enter()
	err := s.db.Apply(b, crdb.NoSync)
	s.streams.give(st)
	if err == nil && d == store.Durable {
		err = s.syncs.share(records)
	}
	s.stall.leave()
	s.metrics.commitSeconds.Observe(time.Since(start).Seconds())
	// A failure of the write-ahead log does not come out of Apply or the fsync, see
	// guard. The guard notes it before they return, so no note means no failure.
	if failure := s.guard.failure(); failure != nil {
		err = failure
	}
	if err != nil {
		return unknown(err)
	}
	return nil
}

// fsync makes durable what was applied before. It writes an empty record to the
// write-ahead log, because Pebble syncs only for a record. That syncs the newest
// write-ahead log; Pebble syncs an older one when it closes it, before it begins the
// next.
func (s *Store) fsync() error { return s.db.LogData(nil, crdb.Sync) }

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

// fail gives err to every op that has no outcome.
func (c *commit) fail(err error) {
	for i := range c.ops {
		if o := &c.ops[i]; o.err == nil {
			o.err = err
		}
	}
}

// finish sets the outcomes and returns the first error that is not a conflict. It puts
// c back into the pool.
func (s *Store) finish(c *commit) error {
	m := &s.metrics
	var first error
	for i := range c.ops {
		o := &c.ops[i]
		o.write.Err = o.err
		if o.err == nil {
			m.records.Add(uint64(len(o.write.Records)))
			m.cells.Add(uint64(len(o.write.Cells)))
			continue
		}
		var conflict *store.ConflictError
		if errors.As(o.err, &conflict) {
			m.conflicts.Add(1)
		} else if first == nil {
			first = o.err
		}
	}
	m.commits.Add(1)
	clear(c.ops)
	clear(c.passed)
	c.ops, c.passed = c.ops[:0], c.passed[:0]
	s.commits.Put(c)
	return first
}
