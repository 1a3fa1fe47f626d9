package cql

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	eraseHere = `UPDATE log SET rev = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF rev = ? AND last = ? AND fence = ?`

	// eraseBefore is for parts before the newest one.
	eraseBefore = `UPDATE log SET rev = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF rev = ?`

	// It leaves origin as it is, which tells whose append the chunk was.
	replaceChunk = `UPDATE log SET chunk = ? WHERE log = ? AND part = ? AND last_seq = ?`
)

// eraseBytes bounds the chunks that one transaction replaces, about.
const eraseBytes = 1 << 20

// erase carries out the erasures of w in a log that ends at after. begun says that some of them may
// have taken effect.
func (s *Store) erase(ctx context.Context, w *store.Write, after pim.Seq) (begun bool, err error) {
	log := s.log(w.Log)
	left := slices.Clone(w.Erase)
	slices.SortStableFunc(left, func(a, b store.Erasure) int { return cmp.Compare(a.Seq, b.Seq) })
	err = s.until(ctx, func() (over bool, err error) {
		e, err := s.end(ctx, log)
		if err != nil {
			return false, err
		}
		if e.last != after || e.fence != w.Fence {
			return true, &store.ConflictError{Log: w.Log, Last: e.last, Fence: e.fence}
		}
		for len(left) > 0 {
			n, applied, err := s.eraseSome(ctx, log, e, left)
			begun = begun || applied || err != nil && !refused(err) && !isRead(err)
			if err != nil || !applied {
				return false, err
			}
			if left = left[n:]; len(left) > 0 {
				if e, err = s.end(ctx, log); err != nil {
					return false, err
				}
			}
			if e.last != after || e.fence != w.Fence {
				return true, &store.ConflictError{Log: w.Log, Last: e.last, Fence: e.fence}
			}
		}
		return true, nil
	})
	return begun, err
}

// eraseSome carries out the first n of some erasures, in one part of a log that ends at e. They are
// sorted by their seqs. If it was not applied, the part has changed meanwhile, or the log's end has.
func (s *Store) eraseSome(ctx context.Context, log []byte, e end, erasures []store.Erasure) (n int, applied bool, err error) {
	for n < len(erasures) && erasures[n].Seq < e.front {
		n++ // it was trimmed
	}
	if n == len(erasures) {
		return n, true, nil
	}
	c, ok, err := s.chunkWith(ctx, log, e, erasures[n].Seq)
	if err != nil || !ok {
		return 0, false, err // a trim takes it, or has
	}
	h := e.head
	if c.part != e.part {
		if h, ok, err = s.head(ctx, log, c.part); err != nil || !ok {
			return 0, false, err
		}
	}
	b := s.batch()
	if c.part == e.part {
		b.Query(eraseHere, h.rev+1, log, h.part, h.rev, int64(e.last), int64(e.fence))
	} else {
		b.Query(eraseBefore, h.rev+1, log, h.part, h.rev)
	}
	// The chunks are read after rev.
	for size := 0; n < len(erasures) && size < eraseBytes; {
		part := c.part
		if c, ok, err = s.chunkWith(ctx, log, e, erasures[n].Seq); err != nil {
			return 0, false, err
		}
		if !ok || c.part != part {
			break
		}
		for ; n < len(erasures) && erasures[n].Seq <= c.last(); n++ {
			c.records[erasures[n].Seq-c.first] = erasures[n].Rest
		}
		value := putChunk(c.records)
		size += len(value)
		b.Query(replaceChunk, value, log, part, int64(c.last()))
	}
	if b.Size() == 1 {
		return 0, false, nil // a trim has taken it
	}
	applied, err = s.transact(ctx, b)
	return n, applied, err
}
