package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// disk is a store that survives its process.
type disk struct {
	meta          engine.Meta
	conversations map[pim.ConversationID]engine.Conversation
	outbox        map[pim.ClientMessageID]engine.Outgoing
	entries       map[pim.ConversationID]map[pim.Seq]pim.Entry
	settings      map[string]pim.Setting
}

func newDisk() *disk {
	return &disk{
		conversations: make(map[pim.ConversationID]engine.Conversation),
		outbox:        make(map[pim.ClientMessageID]engine.Outgoing),
		entries:       make(map[pim.ConversationID]map[pim.Seq]pim.Entry),
		settings:      make(map[string]pim.Setting),
	}
}

func (d *disk) snapshot() engine.Snapshot {
	var settings []engine.Setting
	for entity, set := range d.settings {
		settings = append(settings, engine.Setting{Entity: entity, Setting: set})
	}
	return engine.Snapshot{
		Meta:          d.meta,
		Settings:      settings,
		Conversations: slices.Collect(maps.Values(d.conversations)),
		Outbox:        slices.Collect(maps.Values(d.outbox)),
	}
}

func (d *disk) apply(t tester, b *engine.Batch) {
	if b.Meta != nil {
		if b.Meta.AckSerial < d.meta.AckSerial || b.Meta.LastLocal < d.meta.LastLocal {
			t.Fatalf("went back: %+v after %+v", *b.Meta, d.meta)
		}
		d.meta = *b.Meta
	}
	for _, e := range b.Entries {
		if d.entries[e.Conversation] == nil {
			d.entries[e.Conversation] = make(map[pim.Seq]pim.Entry)
		}
		if old, ok := d.entries[e.Conversation][e.Seq]; ok {
			t.Fatalf("seq %d of %s stored twice: %+v", e.Seq, e.Conversation, old)
		}
		d.entries[e.Conversation][e.Seq] = e.Entry
	}
	for _, c := range b.Conversations {
		if old := d.conversations[c.ID]; c.Known < old.Known {
			t.Fatalf("position of %s went from %d back to %d", c.ID, old.Known, c.Known)
		}
		d.conversations[c.ID] = c
	}
	for _, m := range b.Outbox {
		if old, ok := d.outbox[m.ID]; ok && old.Local != 0 && old.Local != m.Local && old.Failed == nil {
			t.Fatalf("local time of %s went from %d to %d", m.ID, old.Local, m.Local)
		}
		d.outbox[m.ID] = m
	}
	for _, set := range b.Settings {
		d.settings[set.Entity] = set.Setting
	}
	for _, id := range b.Remove {
		delete(d.outbox, id)
	}
	for id, c := range d.conversations {
		for seq := range d.entries[id] {
			if seq > c.Known || inHole(c.Holes, seq) {
				t.Fatalf("seq %d of %s stored, the position is %d with the holes %v", seq, id, c.Known, c.Holes)
			}
		}
	}
}

// messages returns the entries of c by seq.
func (d *disk) messages(c pim.ConversationID) []pim.Entry {
	return slices.SortedFunc(maps.Values(d.entries[c]), func(a, b pim.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
}

// clone is a backup.
func (d *disk) clone() *disk {
	c := &disk{
		meta: d.meta, conversations: maps.Clone(d.conversations), outbox: maps.Clone(d.outbox), settings: maps.Clone(d.settings),
		entries: make(map[pim.ConversationID]map[pim.Seq]pim.Entry),
	}
	for id, m := range d.entries {
		c.entries[id] = maps.Clone(m)
	}
	return c
}

func (d *disk) String() string { return fmt.Sprintf("%+v %+v", d.meta, d.conversations) }
