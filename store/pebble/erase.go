package pebble

import (
	"bytes"
	"cmp"
	"slices"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// To erase a record is to write its chunk again, with the rest in place of the record and under
// the same key. The commit has claimed the log, so no other commit writes its chunks meanwhile,
// and a reader sees the old chunk or the new one. When the old one leaves the disk: purge.go. A
// chunk that is kept apart is written out of the order of its stream, so the tables of a store
// with very many erasures overlap more, see separate.go.

// fillErasures puts the erasures of w, which is in c and whose log is as e, into b. After an error
// it puts none.
func (s *Store) fillErasures(b *crdb.Batch, c *commit, w *store.Write, e end) error {
	erase := slices.SortedStableFunc(slices.Values(w.Erase), func(x, y store.Erasure) int { return cmp.Compare(x.Seq, y.Seq) })
	for len(erase) > 0 && erase[0].Seq <= e.trimmed {
		erase = erase[1:]
	}
	if len(erase) == 0 {
		return nil
	}
	chunks, err := s.erase(w.Log, erase)
	if err != nil {
		return s.readError("erase from "+string(w.Log), err)
	}
	for _, chunk := range chunks {
		chunk.fill(b)
		c.erased = append(c.erased, chunk.key)
	}
	return nil
}

type keyValue struct{ key, value []byte }

func (c *keyValue) fill(b *crdb.Batch) {
	d := b.SetDeferred(len(c.key), len(c.value))
	copy(d.Key, c.key)
	copy(d.Value, c.value)
	d.Finish() // fails only in a batch with an index
}

// erase returns the chunks of log that erasures change, as they will be. The erasures ascend.
func (s *Store) erase(log store.Log, erasures []store.Erasure) (chunks []keyValue, err error) {
	it, err := s.logIter(log, erasures[0].Seq, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for len(erasures) > 0 {
		if !it.SeekGE(appendLogKey(nil, log, erasures[0].Seq)) {
			return nil, cmp.Or(it.Error(), error(errMalformed("log: a record is not there")))
		}
		end, n := chunkEnd(it.Key()), 1
		for n < len(erasures) && erasures[n].Seq <= end {
			n++
		}
		c, err := s.eraseIn(it, erasures[:n])
		if err != nil {
			return nil, err
		}
		chunks, erasures = append(chunks, c), erasures[n:]
	}
	return chunks, nil
}

// eraseIn returns the chunk at which it stands, as it will be. All erasures are of the chunk.
func (s *Store) eraseIn(it *crdb.Iterator, erasures []store.Erasure) (keyValue, error) {
	return s.rewrite(it, func(first pim.Seq, records [][]byte) ([][]byte, error) {
		if first > erasures[0].Seq {
			return nil, errHole
		}
		for _, e := range erasures {
			records[e.Seq-first] = e.Rest
		}
		return records, nil
	})
}

// rewrite returns the chunk at which it stands with other records, and the key under which it
// lies. change gets the chunk's records and the seq of the first one.
func (s *Store) rewrite(it *crdb.Iterator, change func(first pim.Seq, records [][]byte) ([][]byte, error)) (keyValue, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return keyValue{}, err
	}
	key, apart := apartKey(value)
	if !apart {
		key = bytes.Clone(it.Key())
	}
	data, closer, err := s.chunkOf(value)
	if err != nil {
		return keyValue{}, err
	}
	defer closer.Close()
	c, err := parseChunk(data, chunkEnd(it.Key()))
	if err != nil {
		return keyValue{}, err
	}
	first, records := c.first, make([][]byte, 0, c.count)
	for c.count > 0 {
		r, err := c.next()
		if err != nil {
			return keyValue{}, err
		}
		records = append(records, r)
	}
	if records, err = change(first, records); err != nil {
		return keyValue{}, err
	}
	size := uvarintLen(uint64(len(records)))
	for _, r := range records {
		size += uvarintLen(uint64(len(r))) + len(r)
	}
	chunk := make([]byte, size)
	putChunk(chunk, records)
	return keyValue{key, chunk}, nil
}
