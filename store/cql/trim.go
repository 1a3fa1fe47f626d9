package cql

import (
	"context"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	trimHere = `UPDATE log SET front = ?, rev = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF rev = ? AND last < ?`

	deleteChunks = `DELETE FROM log WHERE log = ? AND part = ? AND last_seq <= ?`

	setSwept = `UPDATE log SET swept = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF swept < ? AND last < ?`
)

// trim trims a log. It moves the front first, in the newest part: from then on nobody is given a
// record before it. Then it empties the older parts. If that is interrupted, the next trim of the log
// goes on where this one has ended.
func (s *Store) trim(ctx context.Context, w *store.Write) error {
	log := s.log(w.Log)
	return s.until(ctx, func() (over bool, err error) {
		e, err := s.openEnd(ctx, log)
		if err != nil {
			return false, err
		}
		if err := w.CheckTrim(e.last); err != nil {
			return true, err
		}
		if e.front <= w.Trim {
			b := s.batch().Query(trimHere, int64(w.Trim)+1, e.rev+1, log, e.part, e.rev, s.bound(e.part))
			if _, err := s.cut(ctx, b, log, e.part, w.Trim); err != nil {
				return false, err
			}
			if applied, err := s.transact(ctx, b); err != nil || !applied {
				return false, err
			}
			e.front = w.Trim + 1
		}
		return s.sweep(ctx, log, e)
	})
}

// cut adds to b what takes the records up to upTo out of a part. empty says that the part then has no
// chunk.
func (s *Store) cut(ctx context.Context, b *gocql.Batch, log []byte, part int64, upTo pim.Seq) (empty bool, err error) {
	b.Query(deleteChunks, log, part, int64(upTo))
	empty = true
	err = s.chunks(ctx, log, part, upTo+1, 1, func(c *chunk) bool {
		if empty = false; c.first <= upTo {
			b.Query(replaceChunk, putChunk(c.records[upTo-c.first+1:]), log, part, int64(c.last()))
		}
		return false
	})
	return empty, err
}

// sweep empties the parts before the newest one, as far as they lie before the front.
func (s *Store) sweep(ctx context.Context, log []byte, e end) (over bool, err error) {
	told, swept, upTo := e.swept, e.swept, e.front-1
	for part := e.swept; part < e.part && part <= s.placeOf(e, upTo); part++ {
		if swept-told >= tellEvery {
			if err := s.tellSwept(ctx, log, e, swept); err != nil {
				return false, err
			}
			told = swept
		}
		h, ok, err := s.head(ctx, log, part)
		if err != nil {
			return false, err
		}
		empty := true
		if ok {
			b := s.batch().Query(eraseBefore, h.rev+1, log, part, h.rev)
			if empty, err = s.cut(ctx, b, log, part, upTo); err != nil {
				return false, err
			}
			if applied, err := s.transact(ctx, b); err != nil || !applied {
				return false, err
			}
		}
		if !empty {
			break // what lies in later parts is behind that
		}
		swept = part + 1
	}
	if swept > told {
		if err := s.tellSwept(ctx, log, e, swept); err != nil {
			return false, err
		}
	}
	return true, nil
}

// tellEvery is after how many parts sweep tells how far it has come, so that a trim of very many parts
// that takes too long goes on from there when it is repeated.
const tellEvery = 32

// tellSwept tells the newest head that the parts before swept are empty. If that part is closed
// meanwhile, the next trim sweeps once more.
func (s *Store) tellSwept(ctx context.Context, log []byte, e end, swept int64) error {
	_, err := s.transact(ctx, s.batch().Query(setSwept, swept, log, e.part, swept, s.bound(e.part)))
	return err
}
