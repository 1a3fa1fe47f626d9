package pebble

import (
	"bytes"
	"context"
	"errors"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Get implements store.Store. It looks the cells up one by one, which costs less than an
// iterator: bloom filters answer for most tables that do not have a cell.
func (s *Store) Get(ctx context.Context, gets []store.Get) error {
	err := s.enterRead(ctx, store.CheckBatch(len(gets)))
	if err == nil {
		defer s.leave(1)
	}
	first := err
	for i := range gets {
		g := &gets[i]
		if err == nil {
			err = ctx.Err()
		}
		if g.Cell, g.Err = (store.Cell{}), err; err == nil {
			g.Cell, g.Err = s.lookUp(g.Partition, g.Key)
		}
		if first == nil {
			first = g.Err
		}
	}
	return first
}

func (s *Store) lookUp(p store.Partition, key string) (store.Cell, error) {
	if err := p.Check(); err != nil {
		return store.Cell{}, err
	}
	get := s.get
	if p.Passing() {
		get = s.getPassing
	}
	cell, err := get(p, key)
	if err != nil {
		return store.Cell{}, s.readError("get from "+string(p), err)
	}
	return cell, nil
}

// stackKey holds most keys without an allocation.
type stackKey [128]byte

// get returns a cell of a partition that is not passing. A cell that does not expire takes
// one look-up in the database. A cell that is not there or expires takes one more for each
// live bucket; bloom filters answer most of these.
func (s *Store) get(p store.Partition, key string) (store.Cell, error) {
	var memory stackKey
	k := appendCellKey(memory[:0], p, key)
	cell := store.Cell{}
	if err := s.getAt(k, &cell); err != nil || cell.Version != 0 {
		cell.Key = key
		return cell, err
	}
	for _, b := range s.buckets.live(0) {
		if n := expiringKeyLen(p, key); n <= len(memory) {
			k = memory[:n]
		} else {
			k = make([]byte, n)
		}
		putExpiringKey(k, b, p, key)
		if err := s.getAt(k, &cell); err != nil {
			return cell, err
		}
	}
	if cell.Version != 0 {
		cell.Key = key
	}
	return cell, nil
}

// getAt replaces cell's version and value by those stored at k if they win.
func (s *Store) getAt(k []byte, cell *store.Cell) error {
	data, closer, err := s.db.Get(k)
	if errors.Is(err, crdb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	o, err := parseOperand(data)
	if err != nil {
		return err
	}
	if o.forgets {
		return nil
	}
	if o.version > cell.Version || o.version == cell.Version && bytes.Compare(o.value, cell.Value) > 0 {
		cell.Version, cell.Value = o.version, bytes.Clone(o.value)
	}
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if err := s.enterRead(ctx, p.Check()); err != nil {
		return nil, err
	}
	defer s.leave(1)
	if limit < 1 {
		return nil, pim.Errorf(pim.KindInvalid, "list of %q: the limit is less than 1", p)
	}
	list := s.list
	if p.Passing() {
		list = s.listPassing
	}
	cells, err := list(p, after, limit)
	if err != nil {
		return nil, s.readError("list "+string(p), err)
	}
	return cells, nil
}

func (s *Store) list(p store.Partition, after string, limit int) ([]store.Cell, error) {
	lower, upper := cellBounds(p, after)
	cells, _, err := s.listRange(lower, upper, cellKeyLen(p, ""), limit)
	return cells, err
}

// listRange lists up to limit cells between two keys of Pebble's; the cell's key begins
// after skip bytes of each. It also counts the iterator's steps: over keys, and over the
// operands of each key.
func (s *Store) listRange(lower, upper []byte, skip, limit int) (cells []store.Cell, steps int, err error) {
	steps, err = s.scan(lower, upper, func(key []byte, o operand) bool {
		if !o.forgets {
			cells = append(cells, store.Cell{Key: string(key[skip:]), Version: o.version, Value: bytes.Clone(o.value)})
		}
		return len(cells) < limit
	})
	return cells, steps, err
}

// scan calls f for each operand stored between two keys, until f returns false. It
// counts the iterator's steps.
func (s *Store) scan(lower, upper []byte, f func(key []byte, o operand) bool) (steps int, err error) {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		data, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		o, err := parseOperand(data)
		if err != nil {
			return 0, err
		}
		if !f(it.Key(), o) {
			break
		}
	}
	stats := it.Stats()
	return stats.ForwardStepCount[crdb.InternalIterCall], it.Error()
}
