package cql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim/store"
)

// Cells of one write go in batches. A batch for one partition is one write of Cassandra's. One for
// several saves only messages; Cassandra warns of more than ten, and refuses more than 50 KiB.
const (
	batchCells = 100
	batchBytes = 256 << 10

	mixedCells = 10
	mixedBytes = 16 << 10
)

// extraLife is added to each lifetime, for clocks of nodes that are ahead.
const extraLife = 24 * time.Hour

// cellStatement is a statement that writes a cell.
type cellStatement struct {
	partition string // cells of one of these are stored together
	cql       string
	args      []any
	size      int
}

// table returns where the cells of p are that do not expire.
func table(p store.Partition) string {
	if p.Passing() {
		return "passing"
	}
	return "cell"
}

// statement returns what writes c.
func (s *Store) statement(c *store.CellWrite) cellStatement {
	p, key, version := s.partition(c.Partition), []byte(c.Key), int64(c.Version)
	st := cellStatement{partition: table(c.Partition) + "/" + string(p), size: len(p) + len(key) + len(c.Value)}
	value := c.Value
	if value == nil {
		value = []byte{} // nil would delete
	}
	const where = ` WHERE partition = ? AND key = ?`
	switch {
	case c.Forget:
		st.cql = `DELETE FROM ` + table(c.Partition) + ` USING TIMESTAMP ?` + where
		st.args = []any{version, p, key}
	case c.Lifetime != 0:
		seconds := int((c.Lifetime + extraLife + time.Second - 1) / time.Second)
		st.partition = fmt.Sprintf("expiring/%d/%s%s", len(p), p, key)
		st.cql = `UPDATE expiring USING TIMESTAMP ? AND TTL ? SET value = ?` + where
		st.args = []any{version, seconds, value, p, key}
	default:
		st.cql = `UPDATE ` + table(c.Partition) + ` USING TIMESTAMP ? SET value = ?` + where
		st.args = []any{version, value, p, key}
	}
	return st
}

// writeCells writes cells, in any order. After an error some of them may be written.
func (s *Store) writeCells(ctx context.Context, cells []store.CellWrite) error {
	var statements []cellStatement
	for i := range cells {
		if cells[i].Version != 0 {
			statements = append(statements, s.statement(&cells[i]))
		}
	}
	slices.SortStableFunc(statements, func(a, b cellStatement) int { return strings.Compare(a.partition, b.partition) })
	batches := inBatches(statements)
	errs := make([]error, len(batches))
	each(len(batches), func(i int) { errs[i] = s.writeBatch(ctx, batches[i]) })
	for _, err := range errs {
		if err != nil && len(statements) > 1 {
			return midway(err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// inBatches cuts statements, sorted by their partitions, into batches.
func inBatches(statements []cellStatement) (batches [][]cellStatement) {
	for len(statements) > 0 {
		n, size, mixed := 0, 0, false
		for n < len(statements) {
			st := &statements[n]
			mixes := mixed || n > 0 && st.partition != statements[0].partition
			if n > 0 && (n == batchCells || size+st.size > batchBytes || mixes && (n >= mixedCells || size+st.size > mixedBytes)) {
				break
			}
			size, mixed = size+st.size, mixes
			n++
		}
		batches = append(batches, statements[:n])
		statements = statements[n:]
	}
	return batches
}

// writeBatch writes a batch, again and again until it succeeds or the context ends.
func (s *Store) writeBatch(ctx context.Context, statements []cellStatement) error {
	return s.until(ctx, func() (over bool, err error) {
		s.metrics.rows.Add(float64(len(statements)))
		if len(statements) == 1 {
			err = s.session.Query(statements[0].cql, statements[0].args...).ExecContext(ctx)
		} else {
			b := s.batch()
			for i := range statements {
				b.Query(statements[i].cql, statements[i].args...)
			}
			err = b.ExecContext(ctx)
		}
		if err != nil {
			s.health.fails(err)
			return false, err
		}
		s.health.ok()
		return true, nil
	})
}

// inKeys is how many keys of one partition one query asks for.
const inKeys = 32

// lookup is one query of a Get: keys of one partition, and for each the gets that ask for it.
type lookup struct {
	partition store.Partition
	keys      [][]byte
	gets      map[string][]int
}

// Get implements store.Store. A cell that is not among those that stay may be among those that
// expire: nobody says which kind he asks for.
func (s *Store) Get(ctx context.Context, gets []store.Get) error {
	err := s.enter(ctx, store.CheckBatch(len(gets)))
	if err == nil {
		defer s.calls.Done()
		defer s.metrics.called("get", time.Now())
	}
	var asked []int
	for i := range gets {
		g := &gets[i]
		if g.Cell, g.Err = (store.Cell{}), err; err == nil {
			if g.Err = g.Partition.Check(); g.Err == nil {
				asked = append(asked, i)
			}
		}
	}
	if err != nil {
		return err
	}
	lookups := grouped(gets, asked, inKeys)
	each(len(lookups), func(i int) { s.lookUp(ctx, gets, lookups[i], table(lookups[i].partition)) })
	var perhaps []int
	for _, i := range asked {
		if g := &gets[i]; g.Err == nil && g.Cell.Version == 0 && !g.Partition.Passing() {
			perhaps = append(perhaps, i)
		}
	}
	lookups = grouped(gets, perhaps, 1)
	each(len(lookups), func(i int) { s.lookUp(ctx, gets, lookups[i], "expiring") })
	for i := range gets {
		if err := gets[i].Err; err != nil {
			return err
		}
	}
	return nil
}

// grouped returns the look-ups for those gets that are named by asked, each for at most n keys.
func grouped(gets []store.Get, asked []int, n int) (lookups []*lookup) {
	open := map[store.Partition]*lookup{}
	done := map[store.Partition]map[string]*lookup{}
	for _, i := range asked {
		p, key := gets[i].Partition, gets[i].Key
		if done[p] == nil {
			done[p] = map[string]*lookup{}
		}
		l := done[p][key]
		if l == nil {
			if l = open[p]; l == nil || len(l.keys) == n {
				l = &lookup{partition: p, gets: map[string][]int{}}
				open[p] = l
				lookups = append(lookups, l)
			}
			l.keys = append(l.keys, []byte(key))
			done[p][key] = l
		}
		l.gets[key] = append(l.gets[key], i)
	}
	return lookups
}

// lookUp carries out one query of a Get.
func (s *Store) lookUp(ctx context.Context, gets []store.Get, l *lookup, table string) {
	found := map[string]store.Cell{}
	err := s.readAgain(ctx, func(ctx context.Context, at gocql.Consistency, came func()) error {
		where := ` WHERE partition = ? AND key = ?`
		args := []any{s.partition(l.partition), l.keys[0]}
		if len(l.keys) > 1 {
			where, args[1] = ` WHERE partition = ? AND key IN ?`, l.keys
		}
		iter := s.session.Query(`SELECT key, value, WRITETIME(value) FROM `+table+where, args...).Consistency(at).IterContext(ctx)
		came()
		for {
			c, ok := scanCell(iter)
			if !ok {
				return iter.Close()
			}
			found[c.Key] = c
		}
	})
	for key, asking := range l.gets {
		for n, i := range asking {
			g := &gets[i]
			if g.Err = err; err == nil {
				if g.Cell = found[key]; n > 0 {
					g.Cell.Value = slices.Clone(g.Cell.Value)
				}
			}
		}
	}
}

// scanCell returns the next cell of iter, and false if there is none.
func scanCell(iter *gocql.Iter) (c store.Cell, ok bool) {
	var key, value []byte
	var version int64
	if !iter.Scan(&key, &value, &version) {
		return store.Cell{}, false
	}
	if value == nil {
		value = []byte{}
	}
	return store.Cell{Key: string(key), Version: uint64(version), Value: value}, true
}

// listPage is how many cells of a partition are asked for at once.
const listPage = 64

// List implements store.Store.
func (s *Store) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if err := s.enter(ctx, p.Check(), store.Limit{Records: limit, Bytes: 1}.Check()); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	defer s.metrics.called("list", time.Now())
	var cells []store.Cell
	err := s.readAgain(ctx, func(ctx context.Context, at gocql.Consistency, came func()) error {
		cells = nil
		q := s.session.Query(`SELECT key, value, WRITETIME(value) FROM `+table(p)+` WHERE partition = ? AND key > ? LIMIT ?`,
			s.partition(p), []byte(after), int32(min(limit, 1<<31-1)))
		iter := q.Consistency(at).PageSize(listPage).Prefetch(0).IterContext(ctx)
		came()
		for {
			c, ok := scanCell(iter)
			if !ok {
				return iter.Close()
			}
			cells = append(cells, c)
		}
	})
	if err != nil {
		return nil, err
	}
	return cells, nil
}
