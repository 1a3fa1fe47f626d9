package cql

import (
	"context"
	"errors"
	"math/rand/v2"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	firstAppend = `UPDATE log SET last = ?, fence = 0, front = 1, swept = 0, rev = 0, newest = 0
		WHERE log = ? AND part = 0 AND last_seq = ` + headSeq + ` IF last = null`

	nextAppend = `UPDATE log SET last = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF last = ? AND fence = ?`

	insertChunk = `INSERT INTO log (log, part, last_seq, chunk, origin) VALUES (?, ?, ?, ?, ?)`

	selectOrigin = `SELECT origin FROM log WHERE log = ? AND part = ? AND last_seq = ?`
)

// mostSeq is beyond all seqs and fences that a log can reach. It leaves room to add to.
const mostSeq = 1 << 62

// append appends the records of w, in one transaction.
func (s *Store) append(ctx context.Context, w *store.Write) error {
	log, origin := s.log(w.Log), rand.Int64()
	var p patience
	for {
		var applied bool
		var err error
		if w.After < mostSeq && w.Fence < mostSeq {
			applied, err = s.transact(ctx, s.appends(w, log, origin))
			p.unknown = p.unknown || err != nil && !refused(err)
		}
		if applied {
			return nil
		}
		if err == nil {
			var over bool
			if over, err = s.settle(ctx, w, log, origin); over {
				return err
			}
			if err == nil {
				s.metrics.retries.Inc()
				continue
			}
		}
		if !p.after(ctx, err) {
			if err = unavailable("commit", err); p.unknown {
				return midway(err)
			}
			return err
		}
		s.metrics.retries.Inc()
	}
}

// appends returns the transaction that appends the records of w.
func (s *Store) appends(w *store.Write, log []byte, origin int64) *gocql.Batch {
	part, last := s.partOf(w.After), int64(w.After)+int64(len(w.Records))
	b := s.batch()
	if w.After == 0 && w.Fence == 0 {
		b.Query(firstAppend, last, log)
	} else {
		b.Query(nextAppend, last, log, part, int64(w.After), int64(w.Fence))
	}
	seq := int64(w.After)
	for records := w.Records; len(records) > 0; {
		n := nextChunk(records)
		seq += int64(n)
		b.Query(insertChunk, log, part, seq, putChunk(records[:n]), origin)
		records = records[n:]
	}
	return b
}

// settle finds out why the append of w was not applied. If it is over, the log has gone on, and the
// append has taken effect earlier or never will. It may have done so although it was sent only once,
// because Cassandra repeats a transaction that others have interrupted. If the append's seqs are trimmed,
// nothing tells whose records stood there, and the outcome is unknown. If it is not over, the
// append may be sent again: now the part is open.
func (s *Store) settle(ctx context.Context, w *store.Write, log []byte, origin int64) (over bool, err error) {
	e, err := s.end(ctx, log)
	if err != nil {
		return false, err
	}
	if e.last == w.After && e.fence == w.Fence {
		_, err := s.openEnd(ctx, log)
		return false, err
	}
	return s.settleBehind(ctx, w, log, origin, e)
}

// settleBehind is settle for a log that was found to end at e, where the append can't take effect any more.
func (s *Store) settleBehind(ctx context.Context, w *store.Write, log []byte, origin int64, e end) (over bool, err error) {
	conflict := &store.ConflictError{Log: w.Log, Last: e.last, Fence: e.fence}
	last := w.After + pim.Seq(len(w.Records))
	if w.After >= mostSeq || e.last < last {
		return true, conflict
	}
	var found int64
	err = s.again(ctx, func() error {
		q := s.session.Query(selectOrigin, log, s.partOf(w.After), int64(last)).Consistency(gocql.Serial)
		return q.ScanContext(ctx, &found)
	})
	switch {
	case err == nil && found == origin:
		return true, nil
	case err == nil:
		return true, conflict
	case !errors.Is(err, gocql.ErrNotFound):
		return false, err
	}
	// No append ends at this seq, or its chunk is trimmed, perhaps since the head was read.
	if e, err = s.end(ctx, log); err != nil {
		return false, err
	}
	if e.front > last {
		return true, midway(pim.Errorf(pim.KindUnavailable, "what was appended to %q behind seq %d is trimmed, and nothing tells whose it was", w.Log, w.After))
	}
	return true, conflict
}
