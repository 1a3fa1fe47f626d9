package engine_test

import (
	"bytes"
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
	folds         map[pim.ConversationID]map[pim.Seq]pim.Fold
	settings      map[string]pim.Setting
	erasures      map[erased]pim.Seq
	former        map[pim.ConversationID]map[pim.ClientMessageID]pim.Entry
}

func newDisk() *disk {
	return &disk{
		conversations: make(map[pim.ConversationID]engine.Conversation),
		outbox:        make(map[pim.ClientMessageID]engine.Outgoing),
		entries:       make(map[pim.ConversationID]map[pim.Seq]pim.Entry),
		folds:         make(map[pim.ConversationID]map[pim.Seq]pim.Fold),
		settings:      make(map[string]pim.Setting),
		erasures:      make(map[erased]pim.Seq),
		former:        make(map[pim.ConversationID]map[pim.ClientMessageID]pim.Entry),
	}
}

func (d *disk) snapshot() engine.Snapshot {
	var settings []engine.Setting
	for entity, set := range d.settings {
		settings = append(settings, engine.Setting{Entity: entity, Setting: set})
	}
	var erasures []engine.Erasure
	for x, upTo := range d.erasures {
		erasures = append(erasures, engine.Erasure{Conversation: x.conversation, Erasure: pim.Erasure{By: x.by, UpTo: upTo}})
	}
	return engine.Snapshot{
		Meta:          d.meta,
		Erasures:      erasures,
		Settings:      settings,
		Conversations: slices.Collect(maps.Values(d.conversations)),
		Outbox:        slices.Collect(maps.Values(d.outbox)),
		Former:        slices.Collect(maps.Keys(d.former)),
	}
}

func (d *disk) apply(t tester, b *engine.Batch) {
	for _, r := range b.Rewinds {
		d.rewind(r)
	}
	for _, e := range b.Keep {
		d.keep(e)
	}
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
		if f := d.folds[e.Conversation][cmp.Or(e.Refers, e.Seq)]; f.Erases(&e.Entry) {
			e.Payload, e.Erased = nil, true
		}
		d.entries[e.Conversation][e.Seq] = e.Entry
	}
	for _, f := range b.Folds {
		d.fold(f)
	}
	for _, x := range b.Erasures {
		d.erase(x)
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
	for _, f := range b.Forget {
		if f.ID.IsZero() {
			delete(d.former, f.Conversation)
		}
		if delete(d.former[f.Conversation], f.ID); len(d.former[f.Conversation]) == 0 {
			delete(d.former, f.Conversation)
		}
	}
	for _, r := range b.Trims {
		maps.DeleteFunc(d.entries[r.Conversation], func(seq pim.Seq, _ pim.Entry) bool { return seq < r.Front })
		maps.DeleteFunc(d.folds[r.Conversation], func(seq pim.Seq, _ pim.Fold) bool { return seq < r.Front })
		maps.DeleteFunc(d.former[r.Conversation], func(_ pim.ClientMessageID, e pim.Entry) bool { return e.Seq < r.Former })
		if len(d.former[r.Conversation]) == 0 {
			delete(d.former, r.Conversation)
		}
	}
	for id, c := range d.conversations {
		for seq := range d.entries[id] {
			if seq > c.Known || inHole(c.Holes, seq) {
				t.Fatalf("seq %d of %s stored, the position is %d with the holes %v", seq, id, c.Known, c.Holes)
			}
		}
	}
}

func (d *disk) rewind(r engine.Rewind) {
	for seq, e := range d.entries[r.Conversation] {
		if seq <= r.After {
			continue
		}
		delete(d.entries[r.Conversation], seq)
		if e.Sender == r.Sender && !e.Erased {
			d.keep(e)
		}
	}
	c := d.conversations[r.Conversation]
	c.Known, c.Holes = r.After, nil
	d.conversations[r.Conversation] = c
	for id, e := range d.former[r.Conversation] {
		if r.Aside(&e) {
			d.former[r.Conversation][id] = e
		} else {
			delete(d.former[r.Conversation], id)
		}
	}
	if len(d.former[r.Conversation]) == 0 {
		delete(d.former, r.Conversation)
	}
	maps.DeleteFunc(d.folds[r.Conversation], func(_ pim.Seq, f pim.Fold) bool { return f.Newest() > r.After })
	if _, own := r.Conversation.OwnUser(); own {
		clear(d.settings)
	}
}

// fold merges f into the fold of its message.
func (d *disk) fold(f engine.Fold) {
	merged, known := d.folds[f.Conversation][f.Target]
	if !known {
		merged.Target = f.Target
	}
	merged.Merge(&f.Fold)
	if d.folds[f.Conversation] == nil {
		d.folds[f.Conversation] = make(map[pim.Seq]pim.Fold)
	}
	d.folds[f.Conversation][f.Target] = merged
	for seq, e := range d.entries[f.Conversation] {
		if merged.Erases(&e) {
			e.Payload, e.Erased = nil, true
			d.entries[f.Conversation][seq] = e
		}
	}
}

func (d *disk) erase(x engine.Erasure) {
	d.erasures[erased{x.Conversation, x.By}] = x.UpTo
	for seq, e := range d.entries[x.Conversation] {
		if x.Erases(&e) {
			e.Payload, e.Erased = nil, true
			d.entries[x.Conversation][seq] = e
		}
	}
	for seq, f := range d.folds[x.Conversation] {
		if x.Unfold(&f) {
			d.folds[x.Conversation][seq] = f
		}
	}
}

// erased names a user's messages of a conversation.
type erased struct {
	conversation pim.ConversationID
	by           pim.UserID
}

func (d *disk) keep(e pim.Entry) {
	if d.former[e.Conversation] == nil {
		d.former[e.Conversation] = make(map[pim.ClientMessageID]pim.Entry)
	}
	d.former[e.Conversation][e.ClientID] = e
}

// read answers a Read.
func (d *disk) read(r engine.Read) []pim.Entry {
	if r.Former {
		list := slices.SortedFunc(maps.Values(d.former[r.Conversation]), func(a, b pim.Entry) int {
			return cmp.Or(cmp.Compare(a.Seq, b.Seq), bytes.Compare(a.ClientID[:], b.ClientID[:])) // a seed repeats its run
		})
		list = list[min(r.Skip, len(list)):]
		return list[:min(r.Limit, len(list))]
	}
	list := slices.DeleteFunc(d.messages(r.Conversation), func(e pim.Entry) bool { return e.Seq > r.UpTo })
	return list[max(0, len(list)-r.Limit):]
}

// ids returns the client message IDs of the messages and groups that user has sent or
// made, as far as the disk has them.
func (d *disk) ids(user pim.UserID) (ids []pim.ClientMessageID) {
	add := func(kind pim.EntryKind, sender pim.UserID, id pim.ClientMessageID, erased bool) {
		if sender == user && !erased && (kind == pim.EntryMessage || kind == pim.EntryCreate) {
			ids = append(ids, id)
		}
	}
	for _, of := range d.entries {
		for _, e := range of {
			add(e.Kind, e.Sender, e.ClientID, e.Erased)
		}
	}
	for _, of := range d.former {
		for _, e := range of {
			add(e.Kind, e.Sender, e.ClientID, e.Erased)
		}
	}
	for _, m := range d.outbox {
		add(m.Kind, user, m.ID, false)
	}
	return ids
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
		former:  make(map[pim.ConversationID]map[pim.ClientMessageID]pim.Entry),
		folds:   make(map[pim.ConversationID]map[pim.Seq]pim.Fold),

		erasures: maps.Clone(d.erasures),
	}
	for id, m := range d.folds {
		c.folds[id] = maps.Clone(m)
	}
	for id, m := range d.entries {
		c.entries[id] = maps.Clone(m)
	}
	for id, m := range d.former {
		c.former[id] = maps.Clone(m)
	}
	return c
}

func (d *disk) String() string { return fmt.Sprintf("%+v %+v", d.meta, d.conversations) }
