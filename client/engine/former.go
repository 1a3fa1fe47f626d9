package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
)

// When a conversation is taken back, the store keeps aside the entries that the user
// sent and the server has lost. An entry is also kept aside when its message leaves the
// outbox before the entry is stored (keepUnseen). An entry that then comes by a push or a
// pull is not kept aside any more. So when all that the server has was pulled, it lacks the
// entries that are still kept aside. They are sent again, with the same client message IDs
// and the same local times: they enter the outbox (Outgoing.Again), a page at a time. Every
// device of the user does that. The client message ID gives an entry one effect. If another
// device brought it back so long ago that the server has forgotten the ID, this device has
// pulled the entry.

const backPage = 32 // messages of a conversation that are sent again at once

// former are the conversations that may have entries kept aside, by ID.
type former []*conversation

func (f *former) add(c *conversation) {
	if c.former {
		return
	}
	c.former = true
	at, _ := slices.BinarySearchFunc(*f, c.id, func(a *conversation, id pim.ConversationID) int { return cmp.Compare(a.id, id) })
	*f = slices.Insert(*f, at, c)
}

func (f *former) remove(c *conversation) {
	c.former, c.whole, c.unseen = false, false, nil
	*f = slices.DeleteFunc(*f, func(other *conversation) bool { return other == c })
}

// restoreFormer goes on with what an earlier process kept aside. The own log is pulled
// anew: how old its commands are (wishes.locals) is noted only while they are obeyed.
func (e *Engine) restoreFormer(ids []pim.ConversationID) {
	e.wishes.reset()
	for _, id := range ids {
		c := e.conversations.add(id)
		if c.isOwn() {
			e.takeBack(c, 0, 0, "") // what was stored since is not kept aside: the server has it
			e.wishes.forget(e.settings)
			clear(e.foretold)
			e.wishes.reads = nil
		}
		e.keepFormer(c)
	}
}

// keepFormer notes that entries of c may be kept aside.
func (e *Engine) keepFormer(c *conversation) {
	c.peeked, c.whole = false, true
	if c.isOwn() {
		e.wishes.begin()
	}
	e.former.add(c)
}

// maxUnseen is how many messages of a conversation may wait for their entries before the
// conversation is pulled without jumping gaps.
const maxUnseen = 32

// keepUnseen keeps aside the entry of m, which has left the outbox for the place s in c
// and is not stored: if the server goes back before the entry has come, no other device
// may have it.
//
// Two kinds are not kept aside. A command would make the next process pull the own log anew
// (restoreFormer), which is too much for a setting. If a message that was sent again is
// answered as a duplicate, some device has pulled its entry, and that device brings it back if
// need be. Or the server shows the entry to nobody: then it would be sent again without end.
func (e *Engine) keepUnseen(c *conversation, m *message, s Sent) {
	if m.command != nil || m.Again && s.Duplicate {
		return
	}
	e.out.Store.Keep = append(e.out.Store.Keep, e.entryOf(m, s))
	e.former.add(c)
	if len(c.unseen) < maxUnseen {
		c.unseen = append(c.unseen, s.Seq)
	} else {
		c.whole = true
	}
}

// dropAhead drops the entries of c that wait ahead of a gap. Those that the user sent
// are kept aside: the server has acknowledged them, so they are not in the outbox any
// more.
func (e *Engine) dropAhead(c *conversation) {
	for i := range c.ahead {
		if entry := &c.ahead[i]; entry.Sender == e.meta.User {
			e.out.Store.Keep = append(e.out.Store.Keep, *entry)
			e.mayBeLost(c, c.known+1)
			e.keepFormer(c)
		}
	}
	e.conversations.clearAhead(c)
}

// noFormer notes that nothing of c is kept aside any more.
func (e *Engine) noFormer(c *conversation) {
	e.former.remove(c)
	if c.lost != 0 {
		c.lost = 0
		e.touch(c)
	}
	if c.isOwn() {
		e.wishes.reset()
	}
}

// cameBack takes an entry of this user's that the server has: if it is kept aside, it is
// not to be sent again.
func (e *Engine) cameBack(c *conversation, entry *pim.Entry) {
	c.unseen = slices.DeleteFunc(c.unseen, func(seq pim.Seq) bool { return seq == entry.Seq })
	if c.former && !c.isOwn() {
		e.out.Store.Forget = append(e.out.Store.Forget, Former{c.id, entry.ClientID})
	}
}

// bringBack reads more of what is kept aside, if there is room for it.
func (e *Engine) bringBack() {
	o := &e.outbox
	if len(e.former) == 0 || !e.sync.listed || e.doubts.count > 0 || len(o.failed) > maxFailed/2 ||
		!o.fits(backPage, backPage*pim.MaxPayload) {
		return
	}
	for _, c := range e.former {
		if c.back > 0 && !o.stuck(c) || c.behind() || c.target != 0 || c.pulling || c.reading || !c.followed {
			continue
		}
		if _, ok := c.holes.eager(); ok {
			continue // what is kept aside may lie in that hole
		}
		r := Read{Former: true, Limit: backPage}
		if c.isOwn() {
			r.Skip, r.Limit = e.wishes.skip, commandPage
		}
		c.reading = true
		e.fetches.ask(c, r, e.formerRead)
		return // one Read at a time: the step that takes its answer makes the next
	}
}

// formerRead takes a page of what is kept aside.
func (e *Engine) formerRead(c *conversation, entries []pim.Entry) {
	c.reading = false
	if c.isOwn() {
		e.commandsRead(c, entries)
		return
	}
	if len(entries) == 0 {
		e.noFormer(c)
		return
	}
	if c.back > 0 { // all were refused, see outbox.stuck: only the create can help
		if c.peeked = true; entries[0].Kind != pim.EntryCreate {
			return
		}
	}
	for i := range entries {
		entry := &entries[i]
		e.out.Store.Forget = append(e.out.Store.Forget, Former{c.id, entry.ClientID})
		e.sendAgain(entry)
		if entry.Kind == pim.EntryCreate {
			return // the messages behind it can't be sent before the group exists
		}
	}
}

// sendAgain queues again the message whose entry the server has lost.
func (e *Engine) sendAgain(entry *pim.Entry) {
	out := Outgoing{
		ID: entry.ClientID, Conversation: entry.Conversation, Kind: entry.Kind, Members: entry.Members,
		Payload: entry.Payload, Refers: entry.Refers, Reaction: entry.Reaction, Removed: entry.Removed,
		Retain: entry.Retain, Local: entry.Local, Again: true,
	}
	out.MentionAll = entry.MentionAll
	for _, m := range entry.Mentions {
		out.Mentions = append(out.Mentions, m.User)
	}
	if entry.Kind == pim.EntryCreate {
		out.Conversation = ""
	}
	if m := e.outbox.again(out); m != nil {
		e.countBack(m, 1)
	}
}

// countBack adds n to the messages of m's conversation that are being sent again, if m
// is one.
func (e *Engine) countBack(m *message, n int) {
	if !m.Again {
		return
	}
	id := m.Conversation
	if id == "" {
		id = pim.NewGroup(e.meta.User, m.ID)
	}
	if c := e.conversations.byID[id]; c != nil {
		c.back += n
	}
}

// commandsRead takes a page of commands that are kept aside. After the last page it sends
// again what they come to.
func (e *Engine) commandsRead(c *conversation, entries []pim.Entry) {
	if !e.wishes.page(entries) {
		return
	}
	all := true
	for _, entity := range e.wishes.entities() {
		if len(e.outbox.byID) >= maxOutbox {
			all = false // the rest is sent when these have left the outbox
			break
		}
		if len(e.outbox.commands(pim.Own(e.meta.User), entity)) > 0 {
			continue // there is a newer one
		}
		now, known := e.settings[entity]
		read := pim.Seq(0)
		if about := e.conversations.byID[pim.ConversationID(e.wishes.last[entity].setting.Subject)]; about != nil {
			read = about.known
		}
		if entry, ok := e.wishes.again(entity, now, known, c.known, read); ok {
			e.sendAgain(&entry)
		}
	}
	for _, entity := range e.wishes.end() {
		e.showSetting(entity)
	}
	if all {
		e.out.Store.Forget = append(e.out.Store.Forget, Former{Conversation: c.id})
		e.noFormer(c)
	}
}
