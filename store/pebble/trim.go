package pebble

import (
	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// To trim a log is to delete the chunks that end at the new front or before, and to write the
// chunk that the front divides again, under the same key and without the records before it. Up to
// where the log is trimmed stands beside its fence, in the same batch, so what an iterator shows
// of a log is whole. When the deleted bytes leave the disk: purge.go.
//
// The chunks of a log lie side by side, and one range deletion takes all of them. Those that
// are kept apart lie among the chunks of other logs, and take a deletion each.

// fillTrim puts the trim of w, which is in c and whose log is as e, into b. After an error it puts
// nothing.
func (s *Store) fillTrim(b *crdb.Batch, c *commit, w *store.Write, e end) error {
	if w.Trim <= e.trimmed {
		return nil
	}
	apart, divided, err := s.trim(w.Log, e.trimmed+1, w.Trim)
	if err != nil {
		return s.readError("trim "+string(w.Log), err)
	}
	lower, upper := appendLogKey(nil, w.Log, e.trimmed+1), appendLogKey(nil, w.Log, w.Trim+1)
	_ = b.DeleteRange(lower, upper, nil) // these fail only in a batch with an index
	for _, key := range apart {
		_ = b.Delete(key, nil)
	}
	if divided.key != nil {
		divided.fill(b)
		c.erased = append(c.erased, divided.key)
	}
	c.trims = append(c.trims, keyRange{lower, appendLogKey(nil, w.Log, w.Trim)})
	c.erased = append(c.erased, apart...)
	fillFence(b, w.Log, e.after(w))
	return nil
}

// trim returns the keys of the chunks of log that are kept apart and hold nothing but records
// from..upTo. If some records of a chunk are to stay, trim also returns that chunk as it will be.
func (s *Store) trim(log store.Log, from, upTo pim.Seq) (apart [][]byte, divided keyValue, err error) {
	it, err := s.logIter(log, from, false)
	if err != nil {
		return nil, keyValue{}, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if chunkEnd(it.Key()) > upTo {
			divided, err = s.trimIn(it, upTo)
			return apart, divided, err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, keyValue{}, err
		}
		if key, ok := apartKey(value); ok {
			apart = append(apart, key)
		}
	}
	return apart, keyValue{}, it.Error()
}

// trimIn returns the chunk at which it stands, and which ends behind upTo, as it will be. If it
// begins behind upTo, it stays as it is, and trimIn returns no key.
func (s *Store) trimIn(it *crdb.Iterator, upTo pim.Seq) (keyValue, error) {
	whole := false
	c, err := s.rewrite(it, func(first pim.Seq, records [][]byte) ([][]byte, error) {
		if whole = first > upTo; whole {
			return records, nil
		}
		return records[upTo+1-first:], nil
	})
	if whole {
		return keyValue{}, err
	}
	return c, err
}
