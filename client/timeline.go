package client

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// timeline is a stretch of a conversation up to its end, in display order: entries by
// their places, and after them the messages in the outbox, in the outbox's order. It is
// not safe for concurrent use.
type timeline struct {
	floor   *pim.Place           // entries displayed before it are not held; nil: all are
	entries []pim.Entry          // by place
	folds   map[pim.Seq]pim.Fold // as stored, of those of entries to which others refer
	user    pim.UserID           // of this device
	pending []engine.Pending
	front   pim.Seq               // retention has removed the entries before it; 0: none
	made    map[pim.Seq]pim.Place // places of entries that sent made up, until insert sees the entry itself
}

// insert puts e at its place. It replaces what stands for the same message: a pending
// message, or an entry that was made up from the answer. insert reports whether anything
// has changed.
func (t *timeline) insert(e pim.Entry) bool {
	gone := t.drop(e.ClientID)
	// The entry of a message that was sent again by hand has the local time of the
	// transmission that was appended, which need not be the last.
	if p, ok := t.made[e.Seq]; ok {
		delete(t.made, e.Seq)
		if p != e.Place() {
			t.entries = slices.DeleteFunc(t.entries, func(a pim.Entry) bool { return a.Seq == e.Seq })
			gone = true
		}
	}
	if t.floor != nil && e.Place().Compare(*t.floor) < 0 {
		return gone
	}
	at, known := slices.BinarySearchFunc(t.entries, e.Place(), func(a pim.Entry, p pim.Place) int { return a.Place().Compare(p) })
	if known {
		t.entries[at] = e
		return true
	}
	t.entries = slices.Insert(t.entries, at, e)
	return true
}

// skip begins anew with e. It drops the entries up to the seq to, because they lie below
// a stretch that is not held.
func (t *timeline) skip(to pim.Seq, e pim.Entry) {
	t.entries = slices.DeleteFunc(t.entries, func(a pim.Entry) bool { return a.Seq <= to })
	t.floor = nil
	t.insert(e)
	floor := t.entries[0].Place()
	t.floor = &floor
}

// trim drops the entries before the seq front, and reports that the timeline has changed.
func (t *timeline) trim(front pim.Seq) bool {
	t.front = front
	t.entries = slices.DeleteFunc(t.entries, func(a pim.Entry) bool { return a.Seq < front })
	maps.DeleteFunc(t.folds, func(seq pim.Seq, _ pim.Fold) bool { return seq < front })
	maps.DeleteFunc(t.made, func(seq pim.Seq, _ pim.Place) bool { return seq < front })
	return true
}

// drop removes a pending message, and reports whether there was one.
func (t *timeline) drop(id pim.ClientMessageID) bool {
	n := len(t.pending)
	t.pending = slices.DeleteFunc(t.pending, func(p engine.Pending) bool { return p.ID == id })
	return len(t.pending) < n
}

// put adds a message of the outbox, or replaces it by its new state.
func (t *timeline) put(p engine.Pending) {
	t.drop(p.ID)
	at, _ := slices.BinarySearchFunc(t.pending, p.Number, func(a engine.Pending, n uint64) int { return cmp.Compare(a.Number, n) })
	t.pending = slices.Insert(t.pending, at, p)
}

// sent replaces a pending message by an entry that it makes up from the server's answer:
// the entry itself may come later. If retention has removed the entry, nothing takes its place.
func (t *timeline) sent(id pim.ClientMessageID, s Sent, user pim.UserID, device pim.DeviceID) {
	i := slices.IndexFunc(t.pending, func(p engine.Pending) bool { return p.ID == id })
	if i < 0 {
		return
	}
	if s.Server == 0 || s.Seq < t.front {
		t.drop(id)
		return
	}
	p := &t.pending[i]
	e := pim.Entry{
		Conversation: s.Conversation, Seq: s.Seq, Anchor: s.Anchor, Count: s.Count, Kind: p.Kind, Sender: user, Device: device,
		ClientID: id, Local: p.Local, Server: s.Server, Ahead: s.Ahead, Order: s.Order, Members: p.Members, Payload: p.Payload,
		MentionAll: p.MentionAll, AllCount: s.AllCount, Refers: p.Refers, Reaction: p.Reaction, Removed: p.Removed,
		Retain: p.Retain,
	}
	for _, u := range p.Mentions {
		e.Mentions = append(e.Mentions, pim.Mention{User: u})
	}
	t.insert(e)
	if part, ok := pim.FoldOf(&e); ok { // the stored fold may follow later
		f := t.folds[e.Refers]
		f.Target = e.Refers
		f.Merge(&part)
		t.fold([]pim.Fold{f})
	}
	if t.made == nil {
		t.made = make(map[pim.Seq]pim.Place)
	}
	t.made[e.Seq] = e.Place()
}

// prepend puts a page of older entries, in display order, before the rest. If all is
// true, the store has no entry to show before the page.
func (t *timeline) prepend(page []pim.Entry, all bool) {
	t.floor = nil
	for _, e := range page {
		t.insert(e)
	}
	if !all && len(t.entries) > 0 {
		floor := t.entries[0].Place()
		t.floor = &floor
	}
}

// items returns a copy of all that is held, in display order.
func (t *timeline) items() []Message {
	list := make([]Message, 0, len(t.entries)+len(t.pending))
	for _, e := range t.entries {
		if !refers(e.Kind) {
			f := t.withPending(e.Seq, t.folds[e.Seq])
			if f.Recalled() {
				e.Payload, e.Erased = nil, true
			}
			list = append(list, Message{Entry: e, State: Delivered, Fold: f, user: t.user})
		}
	}
	for _, p := range t.pending {
		if refers(p.Kind) {
			continue
		}
		list = append(list, Message{
			Entry: pim.Entry{
				Conversation: p.Conversation, Kind: p.Kind, ClientID: p.ID, Local: cmp.Or(p.Local, p.Queued),
				Members: p.Members, Payload: p.Payload,
			},
			State: p.State, Err: p.Err,
		})
	}
	return list
}
