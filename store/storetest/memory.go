package storetest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Memory implements the contract in as few lines as possible, in memory. It is for tests, and
// for comparing engines with. It never drops expired cells.
type Memory struct {
	mu       sync.Mutex
	closed   bool
	logs     map[store.Log][][]byte // trimmed records are nil
	fences   map[store.Log]uint64
	trimmed  map[store.Log]pim.Seq
	cells    map[store.Partition]map[string]store.Cell
	gone     map[store.Partition]map[string]uint64 // the version up to which a cell was forgotten
	expiring map[store.Partition]map[string]store.Cell
}

var _ store.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		logs:     map[store.Log][][]byte{},
		fences:   map[store.Log]uint64{},
		trimmed:  map[store.Log]pim.Seq{},
		cells:    map[store.Partition]map[string]store.Cell{},
		gone:     map[store.Partition]map[string]uint64{},
		expiring: map[store.Partition]map[string]store.Cell{},
	}
}

// enter locks m for a call. checks are the results of checking the call's arguments. If
// enter returns nil, the caller must unlock m.
func (m *Memory) enter(ctx context.Context, checks ...error) error {
	for _, err := range append(checks, ctx.Err()) {
		if err != nil {
			return err
		}
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return pim.Errorf(pim.KindUnavailable, "the store is closed")
	}
	return nil
}

// Begin implements store.Store. All writes are done when it returns.
func (m *Memory) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		w.Err = m.write(ctx, w, d)
	}
	for _, w := range writes {
		done(w)
	}
}

func (m *Memory) write(ctx context.Context, w *store.Write, d store.Durability) error {
	if err := m.enter(ctx, w.Check(d)); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if err := w.CheckTrim(pim.Seq(len(m.logs[w.Log]))); err != nil {
		return err
	}
	if w.Follows() {
		if last, fence := pim.Seq(len(m.logs[w.Log])), m.fences[w.Log]; last != w.After || fence != w.Fence {
			return &store.ConflictError{Log: w.Log, Last: last, Fence: fence}
		}
		for _, r := range w.Records {
			m.logs[w.Log] = append(m.logs[w.Log], bytes.Clone(r))
		}
		for _, e := range w.Erase {
			if e.Seq > m.trimmed[w.Log] {
				m.logs[w.Log][e.Seq-1] = bytes.Clone(e.Rest)
			}
		}
	}
	for i := range w.Cells {
		m.writeCell(&w.Cells[i])
	}
	if w.Raise {
		m.fences[w.Log]++
	}
	for m.trimmed[w.Log] < w.Trim {
		m.logs[w.Log][m.trimmed[w.Log]] = nil
		m.trimmed[w.Log]++
	}
	return nil
}

func (m *Memory) writeCell(c *store.CellWrite) {
	if c.Version == 0 {
		return
	}
	to := m.cells
	if c.Lifetime != 0 {
		to = m.expiring
	}
	if to[c.Partition] == nil {
		to[c.Partition], m.gone[c.Partition] = map[string]store.Cell{}, map[string]uint64{}
	}
	cells, gone := to[c.Partition], m.gone[c.Partition]
	old := cells[c.Key]
	switch {
	case c.Forget:
		gone[c.Key] = max(gone[c.Key], c.Version)
		if old.Version <= c.Version {
			delete(cells, c.Key)
		}
	case c.Version <= gone[c.Key]:
	case c.Version > old.Version, c.Version == old.Version && bytes.Compare(c.Value, old.Value) > 0:
		cells[c.Key] = store.Cell{Key: c.Key, Version: c.Version, Value: bytes.Clone(c.Value)}
	}
}

// Barrier implements store.Store. A crash of memory leaves nothing, so there is nothing to wait for.
func (m *Memory) Barrier(ctx context.Context) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	m.mu.Unlock()
	return nil
}

// Read implements store.Store.
func (m *Memory) Read(ctx context.Context, reads []store.Read) error {
	tooMany := store.CheckBatch(len(reads))
	first := tooMany
	for i := range reads {
		r := &reads[i]
		r.First, r.Records, r.Last, r.Fence, r.Front = 0, nil, 0, 0, 0
		if r.Err = m.read(ctx, tooMany, r); first == nil {
			first = r.Err
		}
	}
	return first
}

func (m *Memory) read(ctx context.Context, tooMany error, r *store.Read) error {
	if err := m.enter(ctx, tooMany, r.Check()); err != nil {
		return err
	}
	defer m.mu.Unlock()
	log := m.logs[r.Log]
	front := m.trimmed[r.Log] + 1
	r.First = max(r.From, front)
	to := pim.Seq(len(log))
	if r.WithLast {
		r.Last, r.Fence, r.Front = to, m.fences[r.Log], front
	}
	if r.To != 0 {
		to = min(to, r.To)
	}
	limit := r.Limit
	for seq := r.First; seq <= to && len(r.Records) < limit.Records; seq++ {
		if limit.Bytes -= len(log[seq-1]); limit.Bytes < 0 && len(r.Records) > 0 {
			break
		}
		r.Records = append(r.Records, bytes.Clone(log[seq-1]))
	}
	return nil
}

// Get implements store.Store.
func (m *Memory) Get(ctx context.Context, gets []store.Get) error {
	tooMany := store.CheckBatch(len(gets))
	first := tooMany
	for i := range gets {
		g := &gets[i]
		g.Cell, g.Err = m.get(ctx, tooMany, g.Partition, g.Key)
		if first == nil {
			first = g.Err
		}
	}
	return first
}

func (m *Memory) get(ctx context.Context, tooMany error, p store.Partition, key string) (store.Cell, error) {
	if err := m.enter(ctx, tooMany, p.Check()); err != nil {
		return store.Cell{}, err
	}
	defer m.mu.Unlock()
	c, ok := m.cells[p][key]
	if !ok {
		c = m.expiring[p][key]
	}
	c.Value = bytes.Clone(c.Value)
	return c, nil
}

// List implements store.Store.
func (m *Memory) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if err := m.enter(ctx, p.Check(), store.Limit{Records: limit, Bytes: 1}.Check()); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var cells []store.Cell
	if len(m.cells[p]) == 0 {
		return nil, nil // tests in virtual time list empty partitions by the million
	}
	for _, key := range slices.Sorted(maps.Keys(m.cells[p])) {
		c := m.cells[p][key]
		if key > after && c.Version > 0 && len(cells) < limit {
			c.Value = bytes.Clone(c.Value)
			cells = append(cells, c)
		}
	}
	return cells, nil
}

// Health implements store.Store.
func (m *Memory) Health() error {
	if err := m.enter(context.Background()); err != nil {
		return err
	}
	m.mu.Unlock()
	return nil
}

// Close implements store.Store.
func (m *Memory) Close() error {
	if err := m.enter(context.Background()); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
