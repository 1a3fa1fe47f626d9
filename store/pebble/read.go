package pebble

import (
	"cmp"
	"context"
	"errors"
	"slices"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Read implements store.Store. It reads one log after the other. If the record at From is
// just being appended or trimmed, Read waits for the fsync.
func (s *Store) Read(ctx context.Context, reads []store.Read) error {
	err := s.enterRead(ctx, store.CheckBatch(len(reads)))
	if err == nil {
		defer s.leave(1)
	}
	first := err
	for i := range reads {
		r := &reads[i]
		if err == nil {
			err = ctx.Err()
		}
		r.First, r.Records, r.Last, r.Fence, r.Front, r.Err = 0, nil, 0, 0, 0, err
		if err == nil {
			r.Err = s.readLog(ctx, r)
		}
		if first == nil {
			first = r.Err
		}
	}
	return first
}

// readLog carries out r.
func (s *Store) readLog(ctx context.Context, r *store.Read) error {
	if err := r.Check(); err != nil {
		return err
	}
	from, to := max(r.From, 1), r.To
	if to == 0 {
		to = ^pim.Seq(0)
	}
	for {
		var e end
		first, upTo := from, to
		if r.WithLast { // before the records, so that none of them is beyond it
			var err error
			if e, err = s.logEnd(r.Log); err != nil {
				return s.readError("last of "+string(r.Log), err)
			}
			first, upTo = max(from, e.trimmed+1), min(to, e.last)
		}
		var records [][]byte
		if r.Limit != (store.Limit{}) {
			begin, some, wait, err := s.read(r.Log, first, upTo, r.Limit)
			if err != nil {
				return s.readError("read "+string(r.Log), err)
			}
			if wait != nil {
				if err := await(ctx, wait); err != nil {
					return err
				}
				continue
			}
			if r.WithLast && begin != first {
				continue // the log was trimmed after e was read
			}
			first, records = begin, some
		}
		r.First, r.Records = first, records
		if r.WithLast {
			r.Last, r.Fence, r.Front = e.last, e.fence, e.trimmed+1
		}
		return nil
	}
}

// read returns the durable records from..to, or from the log's front on if from is before that,
// and the seq of the first one. Or it returns a channel to wait for before the next try.
func (s *Store) read(log store.Log, from, to pim.Seq, limit store.Limit) (first pim.Seq, records [][]byte, wait <-chan struct{}, err error) {
	for {
		records, wait, err = s.readFrom(log, from, to, limit)
		var missing *notThere
		if !errors.As(err, &missing) {
			return from, records, wait, err
		}
		// If a trim took it while it was being read, the trim is noted as applied or is durable.
		if _, wait, err = s.logs.shown(string(log), from); wait != nil || err != nil {
			return 0, nil, wait, err
		}
		e, err := s.logEnd(log)
		if err != nil {
			return 0, nil, nil, err
		}
		if e.trimmed < from {
			return from, nil, nil, missing.malformed
		}
		from = e.trimmed + 1
	}
}

// notThere is the error of a read for which a record is not there: it was trimmed, or there is
// no chunk from it on (then malformed is nil), or the log is malformed.
type notThere struct{ malformed error }

func (e *notThere) Error() string { return "a record is not there" }

// readFrom is read, but for a log that has the record at from. It returns a *notThere if not.
func (s *Store) readFrom(log store.Log, from, to pim.Seq, limit store.Limit) ([][]byte, <-chan struct{}, error) {
	it, err := s.logIter(log, from, false)
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	last, wait, err := s.logs.shown(string(log), from)
	if wait != nil || err != nil {
		return nil, wait, err
	}
	if to = min(to, last); from > to || !it.First() {
		return nil, nil, cmp.Or(it.Error(), error(&notThere{}))
	}
	var records [][]byte
	for ok := true; ok && from <= to; ok = it.Next() {
		var full bool
		end := chunkEnd(it.Key())
		records, full, err = s.readChunk(records, it, from, min(to, end), &limit)
		if err != nil {
			return nil, nil, err
		}
		if full {
			break
		}
		from = end + 1
	}
	return records, nil, it.Error()
}

// readChunk appends copies of the records from..to to records, as take does. They are
// records of the chunk at which it stands.
func (s *Store) readChunk(records [][]byte, it *crdb.Iterator, from, to pim.Seq, limit *store.Limit) (_ [][]byte, full bool, err error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, false, err
	}
	value, closer, err := s.chunkOf(value) // perhaps a later one than the iterator shows
	if err == errGone {
		err = &notThere{err}
	}
	if err != nil {
		return nil, false, err
	}
	defer closer.Close()
	c, err := parseChunk(value, chunkEnd(it.Key()))
	if err != nil {
		return nil, false, err
	}
	if c.first > from || len(records) > 0 && c.first != from {
		return nil, false, &notThere{errHole}
	}
	return c.take(records, from, to, limit)
}

// take appends copies of a chunk's records from..to to records and subtracts them from
// limit. full reports that nothing more fits. All copies of a chunk share one piece of
// memory.
func (c *chunk) take(records [][]byte, from, to pim.Seq, limit *store.Limit) (_ [][]byte, full bool, err error) {
	for ; c.first < from; c.first++ {
		if _, err := c.next(); err != nil {
			return nil, false, err
		}
	}
	first, size := len(records), 0
	if c.first <= to {
		records = slices.Grow(records, min(int(to-c.first+1), c.count, limit.Records))
	}
	for ; c.first <= to && !full; c.first++ {
		r, err := c.next()
		if err != nil {
			return nil, false, err
		}
		if len(records) > 0 && len(r) > limit.Bytes {
			full = true
			break
		}
		records = append(records, r)
		size += len(r)
		limit.Bytes -= len(r)
		limit.Records--
		full = limit.Records == 0
	}
	memory := make([]byte, 0, size)
	for i, r := range records[first:] {
		at := len(memory)
		memory = append(memory, r...)
		records[first+i] = memory[at:len(memory):len(memory)]
	}
	return records, full, nil
}

// logEnd returns a log's durable end.
func (s *Store) logEnd(log store.Log) (end, error) {
	if e, ok := s.logs.end(string(log)); ok {
		return e, nil
	}
	return s.seekEnd(log)
}

// seekEnd finds a log's durable end in the database.
func (s *Store) seekEnd(log store.Log) (e end, err error) {
	it, err := s.logIter(log, 1, true)
	if err != nil {
		return end{}, err
	}
	defer it.Close()
	// The iterator may show a write that is not durable. Then the table knows the end.
	if e, ok := s.logs.end(string(log)); ok {
		return e, nil
	}
	ok := it.Last()
	if ok && chunkEnd(it.Key()) == fenceSeq {
		value, err := it.ValueAndErr()
		if err != nil {
			return end{}, err
		}
		if e.fence, e.trimmed, err = parseFence(value); err != nil {
			return end{}, err
		}
		ok = it.Prev()
	}
	e.last = e.trimmed // if no record is left
	if ok {
		e.last = chunkEnd(it.Key())
	}
	return e, it.Error()
}

// logIter returns an iterator over the chunks of log that end at from or later, and over the
// log's fence if withFence is set.
func (s *Store) logIter(log store.Log, from pim.Seq, withFence bool) (*crdb.Iterator, error) {
	n := logKeyLen(log)
	keys := make([]byte, 0, 2*n+1)
	keys = appendLogKey(keys, log, from)
	keys = appendLogKey(keys, log, fenceSeq)
	if withFence {
		keys = append(keys, 0) // the first key after the fence's
	}
	return s.db.NewIter(&crdb.IterOptions{LowerBound: keys[:n:n], UpperBound: keys[n:]})
}
