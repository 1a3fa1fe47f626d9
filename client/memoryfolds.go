package client

import (
	"context"
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// fold merges f into what is stored of its message.
func (m *Memory) fold(f *StoredFold) {
	c := m.conversation(f.Conversation)
	merged, known := c.folds[f.Target]
	if !known {
		merged.Target = f.Target
	}
	was := merged.Recalled()
	merged.Merge(&f.Fold)
	if c.folds == nil {
		c.folds = make(map[pim.Seq]pim.Fold)
	}
	c.folds[f.Target] = merged
	if merged.Recalled() && !was {
		for i := range c.entries {
			if e := &c.entries[i].Entry; merged.Erases(e) {
				erase(e)
			}
		}
	}
}

// targetOf returns the seq of the message whose fold is about e: the message that e refers to,
// or e.
func targetOf(e *pim.Entry) pim.Seq {
	if e.Refers != 0 {
		return e.Refers
	}
	return e.Seq
}

// erase remembers x, and erases what is stored.
func (m *Memory) erase(x StoredErasure) {
	if m.erasures[x.Conversation] == nil {
		m.erasures[x.Conversation] = make(map[pim.UserID]pim.Seq)
	}
	m.erasures[x.Conversation][x.By] = x.UpTo
	c := m.conversation(x.Conversation)
	for i := range c.entries {
		if e := &c.entries[i].Entry; x.Erases(e) {
			erase(e)
		}
	}
	for seq, f := range c.folds {
		if x.Unfold(&f) {
			c.folds[seq] = f
		}
	}
}

func erase(e *pim.Entry) { e.Payload, e.Erased = nil, true }

// rewindFolds drops the folds that have anything above the seq after.
func (c *remembered) rewindFolds(after pim.Seq) {
	maps.DeleteFunc(c.folds, func(_ pim.Seq, f pim.Fold) bool { return f.Newest() > after })
}

// Folds implements Store. It looks at every fold of conv.
func (m *Memory) Folds(_ context.Context, conv pim.ConversationID, from, to pim.Seq) ([]pim.Fold, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := m.conversations[conv]
	if c == nil {
		return nil, nil
	}
	var list []pim.Fold
	for _, seq := range slices.Sorted(maps.Keys(c.folds)) {
		if from <= seq && seq <= to {
			list = append(list, c.folds[seq])
		}
	}
	return list, nil
}
