package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/pim-im/pim"
)

// MemoryOptions say what a memory store keeps.
type MemoryOptions struct {
	// PositionsOnly keeps positions and the outbox, but no entries: Entries, Range,
	// Since and Below return none, and Last comes from the server's summary alone. For
	// load tools; not with Options.Confirm.
	PositionsOnly bool
}

// Memory is a Store that ends with the process. Its entries share their payloads with
// the events, and the strings of their user and device IDs with each other.
type Memory struct {
	Claims
	o MemoryOptions

	mu            sync.RWMutex
	meta          Meta
	conversations map[pim.ConversationID]*remembered
	outbox        map[pim.ClientMessageID]Outgoing
	settings      map[string]pim.Setting
	networks      []Network
	erasures      map[pim.ConversationID]map[pim.UserID]pim.Seq
	former        map[pim.ConversationID]map[pim.ClientMessageID]pim.Entry
	users         map[pim.UserID]pim.UserID // one string for each ID, see one
	devices       map[pim.DeviceID]pim.DeviceID
}

type remembered struct {
	ConversationRow
	entries []Stored // in display order
	folds   map[pim.Seq]pim.Fold
	top     int // index of the entry with the greatest seq
}

// NewMemory returns an empty Memory.
func NewMemory(o MemoryOptions) *Memory {
	return &Memory{
		o:             o,
		conversations: make(map[pim.ConversationID]*remembered),
		outbox:        make(map[pim.ClientMessageID]Outgoing),
		settings:      make(map[string]pim.Setting),
		erasures:      make(map[pim.ConversationID]map[pim.UserID]pim.Seq),
		former:        make(map[pim.ConversationID]map[pim.ClientMessageID]pim.Entry),
		users:         make(map[pim.UserID]pim.UserID),
		devices:       make(map[pim.DeviceID]pim.DeviceID),
	}
}

// Load implements Store.
func (m *Memory) Load(context.Context) (Snapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := Snapshot{Meta: m.meta, Outbox: slices.Collect(maps.Values(m.outbox))}
	for _, c := range m.conversations {
		s.Conversations = append(s.Conversations, c.ConversationRow)
	}
	for entity, set := range m.settings {
		s.Settings = append(s.Settings, Setting{Entity: entity, Setting: set})
	}
	s.Networks = slices.Clone(m.networks)
	for id, of := range m.erasures {
		for by, upTo := range of {
			s.Erasures = append(s.Erasures, StoredErasure{Conversation: id, Erasure: pim.Erasure{By: by, UpTo: upTo}})
		}
	}
	s.Former = slices.Collect(maps.Keys(m.former))
	return s, nil
}

// Apply implements Store. It does not fail.
func (m *Memory) Apply(_ context.Context, b *Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range b.Rewinds {
		m.rewind(&b.Rewinds[i])
	}
	for _, e := range b.Keep {
		m.keep(e)
	}
	if b.Meta != nil {
		m.meta = *b.Meta
	}
	for i := range b.Conversations {
		m.conversation(b.Conversations[i].ID).put(b.Conversations[i])
	}
	if !m.o.PositionsOnly {
		for i := range b.Entries {
			m.insert(b.Entries[i])
		}
		for i := range b.Folds {
			m.fold(&b.Folds[i])
		}
	}
	for _, x := range b.Erasures {
		m.erase(x)
	}
	for _, out := range b.Outbox {
		m.outbox[out.ID] = out
	}
	for _, id := range b.Remove {
		delete(m.outbox, id)
	}
	for _, set := range b.Settings {
		m.settings[set.Entity] = set.Setting
	}
	if b.Networks != nil {
		m.networks = slices.Clone(b.Networks)
	}
	for _, f := range b.Forget {
		m.forget(f)
	}
	for i := range b.Trims {
		m.trim(&b.Trims[i])
	}
	return nil
}

func (m *Memory) conversation(id pim.ConversationID) *remembered {
	c := m.conversations[id]
	if c == nil {
		c = &remembered{ConversationRow: ConversationRow{ID: id}}
		m.conversations[id] = c
	}
	return c
}

// put replaces c's row, except GoneAt.
func (c *remembered) put(row ConversationRow) {
	row.GoneAt = c.GoneAt
	c.ConversationRow = row
}

func (m *Memory) insert(e Stored) {
	c := m.conversation(e.Conversation)
	e.Conversation = c.ID
	e.Sender, e.Device = one(m.users, e.Sender), one(m.devices, e.Device)
	at, known := c.search(e.Place())
	if known {
		return
	}
	if f, ok := c.folds[targetOf(&e.Entry)]; ok && f.Erases(&e.Entry) {
		erase(&e.Entry)
	}
	c.entries = slices.Insert(c.entries, at, e)
	if c.top >= at {
		c.top++ // the top entry has moved, or there was none
	}
	if len(c.entries) == 1 || e.Seq > c.entries[c.top].Seq {
		c.top = at
	}
}

// maxNames bounds how many user IDs, and how many device IDs, are remembered for sharing.
const maxNames = 4096

// one returns the string that all entries share for name.
func one[S ~string](names map[S]S, name S) S {
	if known, ok := names[name]; ok {
		return known
	}
	if len(names) >= maxNames {
		clear(names)
	}
	names[name] = name
	return name
}

// Conversations implements Store.
func (m *Memory) Conversations(context.Context) ([]ConversationRow, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]ConversationRow, 0, len(m.conversations))
	for _, r := range m.conversations {
		list = append(list, r.row())
	}
	slices.SortFunc(list, func(a, b ConversationRow) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// Conversation implements Store.
func (m *Memory) Conversation(_ context.Context, id pim.ConversationID) (ConversationRow, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.conversations[id]; r != nil {
		return r.row(), nil
	}
	return ConversationRow{}, nil
}

func (c *remembered) row() ConversationRow {
	row := c.ConversationRow
	if row.Last.Seq == 0 && len(c.entries) > 0 {
		row.Last = c.entries[c.top].Entry
	}
	return row
}

// Entries implements Store.
func (m *Memory) Entries(_ context.Context, conv pim.ConversationID, before *pim.Place, limit int) ([]pim.Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := m.conversations[conv]
	if c == nil || limit <= 0 {
		return nil, nil
	}
	end := len(c.entries)
	if before != nil {
		end, _ = c.search(*before)
	}
	var list []pim.Entry
	for i := max(0, end-limit); i < end; i++ {
		list = append(list, c.entries[i].Entry)
	}
	return list, nil
}

// Range implements Store. It looks at every entry of conv.
func (m *Memory) Range(_ context.Context, conv pim.ConversationID, from, to pim.Seq, limit int) ([]pim.Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := m.conversations[conv]
	if c == nil {
		return nil, nil
	}
	var list []pim.Entry
	for i := range c.entries {
		if e := &c.entries[i].Entry; from <= e.Seq && e.Seq <= to {
			list = append(list, *e)
		}
	}
	slices.SortFunc(list, func(a, b pim.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return slices.Clip(list[:min(len(list), max(limit, 0))]), nil
}

// Since implements Store. It looks at every entry there is.
func (m *Memory) Since(_ context.Context, number uint64, limit int) ([]Stored, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []Stored
	for _, c := range m.conversations {
		for i := range c.entries {
			if c.entries[i].Number > number {
				list = append(list, c.entries[i])
			}
		}
	}
	slices.SortFunc(list, func(a, b Stored) int { return cmp.Compare(a.Number, b.Number) })
	return slices.Clip(list[:min(len(list), max(limit, 0))]), nil
}

// search returns the index of the entry at p, or the index where it belongs.
func (c *remembered) search(p pim.Place) (at int, found bool) {
	return slices.BinarySearchFunc(c.entries, p, func(a Stored, p pim.Place) int { return a.Place().Compare(p) })
}

// Close implements Store. It forgets nothing, so that a test can use the store again.
func (m *Memory) Close() error { return nil }
