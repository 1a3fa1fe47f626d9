package pebble

import (
	"context"
	"encoding/binary"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Read implements store.Store. It reads one log after the other. If the record at From is
// just being appended, Read waits for the fsync.
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
		r.First, r.Records, r.Last, r.Fence, r.Err = 0, nil, 0, 0, err
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
		upTo := to
		if r.WithLast { // before the records, so that none of them is beyond it
			var err error
			if e, err = s.logEnd(r.Log); err != nil {
				return s.readError("last of "+string(r.Log), err)
			}
			upTo = min(to, e.last)
		}
		var records [][]byte
		if r.Limit != (store.Limit{}) {
			some, wait, err := s.read(r.Log, from, upTo, r.Limit)
			if err != nil {
				return s.readError("read "+string(r.Log), err)
			}
			if wait != nil {
				if err := await(ctx, wait); err != nil {
					return err
				}
				continue
			}
			records = some
		}
		r.First, r.Records, r.Last, r.Fence = from, records, e.last, e.fence
		return nil
	}
}

// read returns the durable records, or a channel to wait for before the next try.
func (s *Store) read(log store.Log, from, to pim.Seq, limit store.Limit) ([][]byte, <-chan struct{}, error) {
	it, err := s.logIter(log, from, false)
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	last, wait := s.logs.shown(string(log), from)
	if wait != nil {
		return nil, wait, nil
	}
	to = min(to, last)
	var records [][]byte
	for ok := from <= to && it.First(); ok && from <= to; ok = it.Next() {
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
	value, closer, err := s.chunkOf(value)
	if err != nil {
		return nil, false, err
	}
	defer closer.Close()
	c, err := parseChunk(value, chunkEnd(it.Key()))
	if err != nil {
		return nil, false, err
	}
	if c.first > from || len(records) > 0 && c.first != from {
		return nil, false, errMalformed("log: it has a hole")
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
		if len(value) != fenceBytes {
			return end{}, errMalformed("fence")
		}
		e.fence = binary.BigEndian.Uint64(value)
		ok = it.Prev()
	}
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
