package cql

import (
	"context"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// atOnce is how many requests of one call are under way at most.
const atOnce = 16

// each calls do for 0 to n-1, on several goroutines.
func each(n int, do func(i int)) {
	if n == 1 {
		do(0)
		return
	}
	next := make(chan int)
	var running sync.WaitGroup
	for range min(n, atOnce) {
		running.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
}

// Read implements store.Store.
func (s *Store) Read(ctx context.Context, reads []store.Read) error {
	err := s.enter(ctx, store.CheckBatch(len(reads)))
	if err == nil {
		defer s.calls.Done()
		defer s.metrics.called("read", time.Now())
	}
	for i := range reads {
		r := &reads[i]
		r.First, r.Records, r.Last, r.Fence, r.Front, r.Err = 0, nil, 0, 0, 0, err
	}
	if err != nil {
		return err
	}
	each(len(reads), func(i int) {
		r := &reads[i]
		if r.Err = r.Check(); r.Err == nil {
			r.Err = s.read(ctx, r)
		}
	})
	for i := range reads {
		if err := reads[i].Err; err != nil {
			return err
		}
	}
	return nil
}

// read carries out one read. The head comes first: the chunks that are read later hold all of what
// the head tells, and perhaps more. If a trim takes the first of them in between, read begins again.
func (s *Store) read(ctx context.Context, r *store.Read) error {
	log := s.log(r.Log)
	for n := 0; ; n++ {
		e, err := s.end(ctx, log)
		if err != nil {
			return err
		}
		first, to := max(r.From, e.front), e.last
		if r.To != 0 {
			to = min(to, r.To)
		}
		var records [][]byte
		if r.Limit != (store.Limit{}) && first <= to {
			if records, err = s.records(ctx, log, e, first, to, r.Limit); err != nil {
				return err
			}
			if len(records) == 0 {
				if err := missing(ctx, r.Log, first, n); err != nil {
					return err
				}
				continue
			}
		}
		r.First, r.Records = first, records
		if r.WithLast {
			r.Last, r.Fence, r.Front = e.last, e.fence, e.front
		}
		return nil
	}
}

// missing pauses before a record is looked for again that should be in the log. After some times it
// returns an error.
func missing(ctx context.Context, log store.Log, seq pim.Seq, n int) error {
	if n >= 8 {
		return pim.Errorf(pim.KindCorrupt, "the log %q has no record at seq %d", log, seq)
	}
	if !pause(ctx, n) {
		return ctx.Err()
	}
	return nil
}

const selectChunks = `SELECT last_seq, chunk FROM log WHERE log = ? AND part = ? AND last_seq >= ? AND last_seq < ` + headSeq

const (
	pageRows  = 32       // chunks that are asked for at once, at most
	chunkRoom = 64 << 10 // bytes of the limit, for each of which one more chunk is asked for
)

// records returns records from first to to, from one part of a log that ends at e; none if the first
// one is not there.
func (s *Store) records(ctx context.Context, log []byte, e end, first, to pim.Seq, limit store.Limit) (records [][]byte, err error) {
	next, left := first, limit.Bytes
	for part := s.placeOf(e, first); len(records) == 0; part-- {
		if ok, err := s.mayLieIn(ctx, log, e, first, part); err != nil || !ok {
			return nil, err
		}
		err := s.chunks(ctx, log, part, first, min(limit.Records, pageRows, limit.Bytes/chunkRoom+1), func(c *chunk) bool {
			if c.first > next || c.last() < next {
				return false // it is in an earlier part, or a trim has taken what came between
			}
			for _, r := range c.records[next-c.first:] {
				if left -= len(r); next > to || len(records) == limit.Records || left < 0 && len(records) > 0 {
					return false
				}
				records = append(records, r)
				next++
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return records, nil
}

// placeOf returns the last part in which the record at seq may lie. It lies in that one, unless one
// append had more records than a part has seqs, or began in an earlier one.
func (s *Store) placeOf(e end, seq pim.Seq) int64 { return min(s.partOf(seq-1), e.part) }

// mayLieIn reports whether part may hold the record at seq, after all parts from placeOf(e, seq) down
// to this one were looked at. It looks whether the record is trimmed before many parts are searched in vain.
func (s *Store) mayLieIn(ctx context.Context, log []byte, e end, seq pim.Seq, part int64) (bool, error) {
	if part < e.swept || part >= s.placeOf(e, seq)-1 {
		return part >= e.swept, nil
	}
	now, err := s.end(ctx, log)
	return now.front <= seq, err
}

// chunks reads the chunks of a part that end at first or later, and calls do with each until it
// returns false.
func (s *Store) chunks(ctx context.Context, log []byte, part int64, first pim.Seq, page int, do func(*chunk) bool) error {
	begun := false // do was called
	return s.readAgain(ctx, func(ctx context.Context, at gocql.Consistency, came func()) error {
		iter := s.session.Query(selectChunks, log, part, int64(first)).Consistency(at).PageSize(page).Prefetch(0).IterContext(ctx)
		came()
		for {
			var last int64
			var value []byte
			if !iter.Scan(&last, &value) {
				break
			}
			c, err := parseChunk(value, part, last)
			if err != nil {
				iter.Close()
				return err
			}
			begun = true
			if !do(&c) {
				iter.Close()
				return nil
			}
		}
		if err := iter.Close(); err != nil && !begun {
			return err
		}
		return nil // a later page has failed: what came before is enough
	})
}

// chunkWith returns the chunk that has the record at seq, in a log that ends at e. ok is false if
// there is none.
func (s *Store) chunkWith(ctx context.Context, log []byte, e end, seq pim.Seq) (c chunk, ok bool, err error) {
	for part := s.placeOf(e, seq); !ok && err == nil; part-- {
		if may, err := s.mayLieIn(ctx, log, e, seq, part); err != nil || !may {
			return chunk{}, false, err
		}
		err = s.chunks(ctx, log, part, seq, 1, func(found *chunk) bool {
			c, ok = *found, found.first <= seq
			return false
		})
	}
	return c, ok, err
}
