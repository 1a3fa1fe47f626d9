package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
)

const (
	maxAhead      = 512     // entries of a conversation that wait for a gap to close
	maxAheadBytes = 4 << 20 // their payloads, of all conversations
)

// conversations are all that the device knows of, and the counts of those that are not
// complete. Only its methods change target, holes, stale and ahead of a conversation.
type conversations struct {
	watch bool // Config.Watch: only what Follow names is followed

	byID       map[pim.ConversationID]*conversation
	behind     int // conversations with a target
	holed      int // conversations with a hole that is not lazy
	stale      int // conversations whose folds may lack something
	aheadBytes int // payloads in conversation.ahead, of all conversations
}

// restore goes on with what a store has of a conversation.
func (cs *conversations) restore(row *Conversation) {
	c := &conversation{
		id: row.ID, known: row.Known, newest: max(row.Known, row.Newest), counted: row.Newest,
		count: row.Count, own: row.Own, ownUpTo: row.OwnCount, ownAll: row.OwnAll, said: row.Mentioned, left: row.Left, followed: !cs.watch,
		folded: row.Folded, front: row.Front, lost: row.Lost,
	}
	cs.byID[row.ID] = c
	cs.setHoles(c, soundHoles(row.Holes, row.Known))
	cs.setStale(c, min(row.Stale, row.Known))
}

// restoreErasure goes on with what a store has of the erasures of a conversation.
func (cs *conversations) restoreErasure(x Erasure) {
	c := cs.add(x.Conversation)
	if c.erased == nil {
		c.erased = make(map[pim.UserID]pim.Seq)
	}
	c.erased[x.By] = x.UpTo
}

// get returns the state of id, which it creates; nil if id is not followed.
func (cs *conversations) get(id pim.ConversationID) *conversation {
	if cs.byID[id] == nil && (cs.watch || id == "") {
		return nil
	}
	if c := cs.add(id); c.followed {
		return c
	}
	return nil
}

// add returns the state of id, which it creates, followed or not.
func (cs *conversations) add(id pim.ConversationID) *conversation {
	c := cs.byID[id]
	if c == nil {
		c = &conversation{id: id, followed: !cs.watch}
		cs.byID[id] = c
	}
	return c
}

// complete reports whether no conversation has a target, a hole that is filled by itself, or
// folds that may lack something.
func (cs *conversations) complete() bool { return cs.behind == 0 && cs.holed == 0 && cs.stale == 0 }

// setTarget sets where the catching up of c ends; 0: nowhere.
func (cs *conversations) setTarget(c *conversation, target pim.Seq) {
	switch {
	case target != 0 && c.target == 0:
		cs.behind++
	case target == 0 && c.target != 0:
		cs.behind--
	}
	c.target = target
}

// arrived ends the catching up of c if its position has reached the target.
func (cs *conversations) arrived(c *conversation) {
	if c.target != 0 && c.known >= c.target {
		cs.setTarget(c, 0)
	}
}

// setHoles changes c's holes.
func (cs *conversations) setHoles(c *conversation, hs holes) {
	_, had := c.holes.eager()
	c.holes = hs
	_, has := c.holes.eager()
	switch {
	case has && !had:
		cs.holed++
	case had && !has:
		cs.holed--
	}
}

// setStale notes that the folds of c up to the seq to may lack something; 0: none does.
func (cs *conversations) setStale(c *conversation, to pim.Seq) {
	switch {
	case to != 0 && c.stale == 0:
		cs.stale++
	case to == 0 && c.stale != 0:
		cs.stale--
	}
	c.stale, c.fresh = to, 0
}

// keepAhead keeps entry until the gap before it is closed, if there is room.
func (cs *conversations) keepAhead(c *conversation, entry pim.Entry) {
	at, known := slices.BinarySearchFunc(c.ahead, entry.Seq, func(a pim.Entry, s pim.Seq) int { return cmp.Compare(a.Seq, s) })
	if known || len(c.ahead) >= maxAhead || cs.aheadBytes+len(entry.Payload) > maxAheadBytes {
		return
	}
	c.ahead = slices.Insert(c.ahead, at, entry)
	cs.aheadBytes += len(entry.Payload)
}

// takeAhead takes out the entry that was kept ahead and is next now; ok is false if there
// is none.
func (cs *conversations) takeAhead(c *conversation) (next pim.Entry, ok bool) {
	for len(c.ahead) > 0 && c.ahead[0].Seq <= c.known+1 && !ok {
		next, ok = c.ahead[0], c.ahead[0].Seq == c.known+1
		cs.aheadBytes -= len(next.Payload)
		c.ahead[0] = pim.Entry{}
		c.ahead = c.ahead[1:]
	}
	if len(c.ahead) == 0 {
		c.ahead = nil
	}
	return next, ok
}

// trimAhead forgets those entries ahead of a gap that lie below the seq front.
func (cs *conversations) trimAhead(c *conversation, front pim.Seq) {
	c.ahead = slices.DeleteFunc(c.ahead, func(e pim.Entry) bool {
		if e.Seq < front {
			cs.aheadBytes -= len(e.Payload)
		}
		return e.Seq < front
	})
	if len(c.ahead) == 0 {
		c.ahead, c.gapBy = nil, 0
	}
}

// clearAhead forgets the entries of c that wait for a gap to close.
func (cs *conversations) clearAhead(c *conversation) {
	for i := range c.ahead {
		cs.aheadBytes -= len(c.ahead[i].Payload)
	}
	c.ahead, c.gapBy = nil, 0
}
