package client

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// rewind takes a conversation back.
func (m *Memory) rewind(r *Rewind) {
	c := m.conversation(r.Conversation)
	kept := make([]Stored, 0, len(c.entries))
	for _, e := range c.entries {
		switch {
		case e.Seq <= r.After:
			kept = append(kept, e)
		case e.Sender == r.Sender && !e.Erased:
			m.keep(e.Entry)
		}
	}
	c.hold(kept)
	for id, e := range m.former[c.ID] {
		if r.Aside(&e) {
			m.former[c.ID][id] = e
		} else {
			delete(m.former[c.ID], id)
		}
	}
	if len(m.former[c.ID]) == 0 {
		delete(m.former, c.ID)
	}
	c.rewindFolds(r.After)
	if _, own := r.Conversation.OwnUser(); own {
		clear(m.settings)
	}
}

// hold makes entries, in display order, those of c.
func (c *remembered) hold(entries []Stored) {
	c.entries, c.top = entries, 0
	for i := range entries {
		if entries[i].Seq > entries[c.top].Seq {
			c.top = i
		}
	}
}

// trim takes away what retention has removed.
func (m *Memory) trim(t *Trim) {
	c := m.conversation(t.Conversation)
	newest := pim.Seq(0)
	kept := make([]Stored, 0, len(c.entries))
	for _, e := range c.entries {
		switch {
		case e.Seq >= t.Front:
			kept = append(kept, e)
		case e.Seq > newest:
			newest, c.GoneAt = e.Seq, max(c.GoneAt, e.Time())
		}
	}
	c.hold(kept)
	maps.DeleteFunc(c.folds, func(seq pim.Seq, _ pim.Fold) bool { return seq < t.Front })
	maps.DeleteFunc(m.former[c.ID], func(_ pim.ClientMessageID, e pim.Entry) bool { return e.Seq < t.Former })
	if len(m.former[c.ID]) == 0 {
		delete(m.former, c.ID)
	}
}

// keep keeps an entry aside.
func (m *Memory) keep(e pim.Entry) {
	if m.former[e.Conversation] == nil {
		m.former[e.Conversation] = make(map[pim.ClientMessageID]pim.Entry)
	}
	m.former[e.Conversation][e.ClientID] = e
}

// forget deletes what was kept aside.
func (m *Memory) forget(f Former) {
	of := m.former[f.Conversation]
	delete(of, f.ID)
	if f.ID.IsZero() || len(of) == 0 {
		delete(m.former, f.Conversation)
	}
}

// Below implements Store. It looks at every entry of conv.
func (m *Memory) Below(_ context.Context, conv pim.ConversationID, to pim.Seq, limit int) ([]pim.Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := m.conversations[conv]
	if c == nil {
		return nil, nil
	}
	var list []pim.Entry
	for i := range c.entries {
		if c.entries[i].Seq <= to {
			list = append(list, c.entries[i].Entry)
		}
	}
	slices.SortFunc(list, bySeq)
	return slices.Clone(list[max(0, len(list)-max(limit, 0)):]), nil
}

// Former implements Store.
func (m *Memory) Former(_ context.Context, conv pim.ConversationID, skip, limit int) ([]pim.Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := slices.SortedFunc(maps.Values(m.former[conv]), bySeq)
	list = list[min(max(skip, 0), len(list)):]
	return slices.Clone(list[:min(max(limit, 0), len(list))]), nil
}

func bySeq(a, b pim.Entry) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), slices.Compare(a.ClientID[:], b.ClientID[:]))
}
