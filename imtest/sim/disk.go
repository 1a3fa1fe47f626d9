package sim

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// disk is a device's store. It outlives the process.
type disk struct {
	meta          engine.Meta
	conversations map[pim.ConversationID]engine.Conversation
	entries       map[pim.ConversationID]map[pim.Seq]pim.Entry
	stored        []engine.Stored // the same entries, in the order of their numbers
	outbox        map[pim.ClientMessageID]engine.Outgoing
	folds         map[pim.ConversationID]map[pim.Seq]pim.Fold
	settings      map[string]pim.Setting
	networks      []engine.Network
	erasures      map[erased]pim.Seq
	former        map[pim.ConversationID][]pim.Entry // entries kept aside, by seq

	// How it is broken on purpose.
	merge func(f, with *pim.Fold) // nil: pim.Fold.Merge
	keeps bool                    // what a recall erases
	// What an erase takes, and what a trim does.
	keepsErased, keepsTrimmed bool
}

// erased names a user's messages of a conversation.
type erased struct {
	conversation pim.ConversationID
	by           pim.UserID
}

func newDisk() *disk {
	return &disk{
		conversations: make(map[pim.ConversationID]engine.Conversation),
		entries:       make(map[pim.ConversationID]map[pim.Seq]pim.Entry),
		outbox:        make(map[pim.ClientMessageID]engine.Outgoing),
		folds:         make(map[pim.ConversationID]map[pim.Seq]pim.Fold),
		settings:      make(map[string]pim.Setting),
		erasures:      make(map[erased]pim.Seq),
		former:        make(map[pim.ConversationID][]pim.Entry),
	}
}

// clone returns a copy of d, for a backup.
func (d *disk) clone() *disk {
	c := *d
	c.conversations, c.outbox, c.settings = maps.Clone(d.conversations), maps.Clone(d.outbox), maps.Clone(d.settings)
	c.erasures = maps.Clone(d.erasures)
	c.entries = make(map[pim.ConversationID]map[pim.Seq]pim.Entry)
	for id, entries := range d.entries {
		c.entries[id] = maps.Clone(entries)
	}
	c.folds = make(map[pim.ConversationID]map[pim.Seq]pim.Fold)
	for id, folds := range d.folds {
		c.folds[id] = maps.Clone(folds)
	}
	c.stored = slices.Clone(d.stored)
	c.former = maps.Clone(d.former)
	return &c
}

// since returns the entries with a number above number.
func (d *disk) since(number uint64) []engine.Stored {
	at, _ := slices.BinarySearchFunc(d.stored, number+1, func(e engine.Stored, n uint64) int { return cmp.Compare(e.Number, n) })
	return slices.Clone(d.stored[at:])
}

// snapshot returns what an engine starts from, in an order that does not depend on the
// order of maps.
func (d *disk) snapshot() engine.Snapshot {
	s := engine.Snapshot{Meta: d.meta, Networks: d.networks}
	for _, id := range slices.Sorted(maps.Keys(d.conversations)) {
		s.Conversations = append(s.Conversations, d.conversations[id])
	}
	for _, m := range d.outbox {
		s.Outbox = append(s.Outbox, m)
	}
	slices.SortFunc(s.Outbox, func(a, b engine.Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for _, entity := range slices.Sorted(maps.Keys(d.settings)) {
		s.Settings = append(s.Settings, engine.Setting{Entity: entity, Setting: d.settings[entity]})
	}
	for x, upTo := range d.erasures {
		s.Erasures = append(s.Erasures, engine.Erasure{Conversation: x.conversation, Erasure: pim.Erasure{By: x.by, UpTo: upTo}})
	}
	s.Former = slices.Sorted(maps.Keys(d.former))
	return s
}

// apply applies b in one transaction.
func (d *disk) apply(b *engine.Batch) {
	for _, r := range b.Rewinds {
		d.rewind(r)
	}
	for _, e := range b.Keep {
		d.keep(e)
	}
	if b.Meta != nil {
		d.meta = *b.Meta
	}
	for _, e := range b.Entries {
		if d.entries[e.Conversation] == nil {
			d.entries[e.Conversation] = make(map[pim.Seq]pim.Entry)
		}
		if f := d.folds[e.Conversation][cmp.Or(e.Refers, e.Seq)]; f.Erases(&e.Entry) && !d.keeps {
			e.Payload, e.Erased = nil, true
		}
		d.entries[e.Conversation][e.Seq] = e.Entry
		d.stored = append(d.stored, e)
	}
	for _, f := range b.Folds {
		d.fold(f)
	}
	for _, x := range b.Erasures {
		d.erase(x)
	}
	for _, c := range b.Conversations {
		d.conversations[c.ID] = c
	}
	for _, m := range b.Outbox {
		d.outbox[m.ID] = m
	}
	for _, id := range b.Remove {
		delete(d.outbox, id)
	}
	for _, s := range b.Settings {
		d.settings[s.Entity] = s.Setting
	}
	if b.Networks != nil {
		d.networks = slices.Clone(b.Networks)
	}
	for _, f := range b.Forget {
		rest := slices.DeleteFunc(slices.Clone(d.former[f.Conversation]), func(e pim.Entry) bool { return f.ID.IsZero() || e.ClientID == f.ID })
		if d.former[f.Conversation] = rest; len(rest) == 0 {
			delete(d.former, f.Conversation)
		}
	}
	for _, t := range b.Trims {
		d.trim(t)
	}
}

// trim does what engine.Trim says.
func (d *disk) trim(t engine.Trim) {
	if d.keepsTrimmed {
		return
	}
	maps.DeleteFunc(d.entries[t.Conversation], func(seq pim.Seq, _ pim.Entry) bool { return seq < t.Front })
	d.stored = slices.DeleteFunc(d.stored, func(e engine.Stored) bool { return e.Conversation == t.Conversation && e.Seq < t.Front })
	maps.DeleteFunc(d.folds[t.Conversation], func(seq pim.Seq, _ pim.Fold) bool { return seq < t.Front })
	rest := slices.DeleteFunc(slices.Clone(d.former[t.Conversation]), func(e pim.Entry) bool { return e.Seq < t.Former })
	if d.former[t.Conversation] = rest; len(rest) == 0 {
		delete(d.former, t.Conversation)
	}
}

// rewind does what engine.Rewind says.
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
	d.stored = slices.DeleteFunc(d.stored, func(e engine.Stored) bool { return e.Conversation == r.Conversation && e.Seq > r.After })
	var rest []pim.Entry
	for _, e := range d.former[r.Conversation] {
		if r.Aside(&e) {
			rest = append(rest, e)
		}
	}
	if d.former[r.Conversation] = rest; len(rest) == 0 {
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
	if d.merge != nil {
		d.merge(&merged, &f.Fold)
	} else {
		merged.Merge(&f.Fold)
	}
	if d.folds[f.Conversation] == nil {
		d.folds[f.Conversation] = make(map[pim.Seq]pim.Fold)
	}
	d.folds[f.Conversation][f.Target] = merged
	if d.keeps {
		return
	}
	for seq, e := range d.entries[f.Conversation] {
		if merged.Erases(&e) {
			e.Payload, e.Erased = nil, true
			d.entries[f.Conversation][seq] = e
		}
	}
	for i, e := range d.stored {
		if e.Conversation == f.Conversation && merged.Erases(&e.Entry) {
			d.stored[i].Payload, d.stored[i].Erased = nil, true
		}
	}
}

// erase remembers x, and erases what is stored.
func (d *disk) erase(x engine.Erasure) {
	if d.erasures[erased{x.Conversation, x.By}] = x.UpTo; d.keepsErased {
		return
	}
	for seq, e := range d.entries[x.Conversation] {
		if x.Erases(&e) {
			e.Payload, e.Erased = nil, true
			d.entries[x.Conversation][seq] = e
		}
	}
	for i, e := range d.stored {
		if e.Conversation == x.Conversation && x.Erases(&e.Entry) {
			d.stored[i].Payload, d.stored[i].Erased = nil, true
		}
	}
	for seq, f := range d.folds[x.Conversation] {
		if x.Unfold(&f) {
			d.folds[x.Conversation][seq] = f
		}
	}
}

// keep keeps an entry aside, in place of one with the same client message ID.
func (d *disk) keep(e pim.Entry) {
	kept := slices.DeleteFunc(slices.Clone(d.former[e.Conversation]), func(k pim.Entry) bool { return k.ClientID == e.ClientID })
	kept = append(kept, e)
	slices.SortFunc(kept, bySeq)
	d.former[e.Conversation] = kept
}

// bySeq orders entries. Entries kept aside may be of several logs, so that two have the
// same seq; then the client message ID decides.
func bySeq(a, b pim.Entry) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), slices.Compare(a.ClientID[:], b.ClientID[:]))
}

// read answers a Read.
func (d *disk) read(r engine.Read) []pim.Entry {
	if r.Former {
		list := d.former[r.Conversation]
		list = list[min(r.Skip, len(list)):]
		return slices.Clone(list[:min(r.Limit, len(list))])
	}
	var list []pim.Entry
	for seq, e := range d.entries[r.Conversation] {
		if seq <= r.UpTo {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, bySeq)
	return list[max(0, len(list)-r.Limit):]
}

// shown returns a conversation's entries as the device displays them.
func (d *disk) shown(id pim.ConversationID) []pim.Entry {
	return slices.SortedFunc(maps.Values(d.entries[id]), func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
}
