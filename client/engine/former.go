package engine

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// What a user sent and the server has lost since is kept aside in the store when its
// conversation is taken back. When all that the server has now was pulled, what is
// still kept aside is not there, and is sent again: the same client message ID, the
// same local time. It is in the outbox then (Outgoing.Again), a page at a time. Every
// device of the user does that; the client message ID gives it one effect, and what
// another device brought back longer ago than the server remembers has been pulled.

const (
	backPage    = 32   // messages of a conversation that are sent again at once
	commandPage = 1000 // commands that are read at once
)

// former is what is kept aside.
type former struct {
	list    []*conversation // that may have some, by ID
	skip    int             // commands of the own log that were read,
	wishes  map[string]wish // what they come to,
	locals  map[string]pim.Millis
	cleared map[string]bool        // the settings there were
	reads   map[string]pim.Command // of conversations that were taken back: how far what was read is still there
}

// wish is the last command of an entity that is kept aside.
type wish struct {
	setting pim.Setting
	entry   pim.Entry
}

// restoreFormer takes what an earlier process kept aside. The own log is read anew:
// how old its commands are is known only while they are obeyed.
func (e *Engine) restoreFormer(ids []pim.ConversationID) {
	e.former.reads = make(map[string]pim.Command)
	for _, id := range ids {
		c := e.conversations[id]
		if c == nil {
			c = &conversation{id: id, followed: !e.cfg.Watch}
			e.conversations[id] = c
		}
		if c.isOwn() {
			e.takeBack(c, 0, 0, "") // what it has since is not kept aside: the server has it
			e.forgetSettings()
			e.former.reads = nil
		}
		e.keepFormer(c)
	}
}

// keepFormer notes that entries of c may be kept aside.
func (e *Engine) keepFormer(c *conversation) {
	c.peeked = false
	if c.isOwn() {
		e.former.skip, e.former.wishes = 0, make(map[string]wish)
		e.former.locals = make(map[string]pim.Millis)
	}
	if c.former {
		return
	}
	c.former = true
	at, _ := slices.BinarySearchFunc(e.former.list, c.id, func(a *conversation, id pim.ConversationID) int { return cmp.Compare(a.id, id) })
	e.former.list = slices.Insert(e.former.list, at, c)
}

// dropAhead gives up what is ahead of a gap of c. Of what the user sent the server
// has said that it has it, so the outbox has it no more.
func (e *Engine) dropAhead(c *conversation) {
	for i := range c.ahead {
		if entry := &c.ahead[i]; entry.Sender == e.meta.User {
			e.out.Store.Keep = append(e.out.Store.Keep, *entry)
			e.keepFormer(c)
		}
	}
	e.clearAhead(c)
}

// noFormer notes that nothing of c is kept aside any more.
func (e *Engine) noFormer(c *conversation) {
	c.former = false
	e.former.list = slices.DeleteFunc(e.former.list, func(other *conversation) bool { return other == c })
	if c.isOwn() {
		e.former = former{list: e.former.list, reads: make(map[string]pim.Command)}
	}
}

// cameBack takes an entry of this user's that the server has: it is not to be sent
// again.
func (e *Engine) cameBack(c *conversation, entry *pim.Entry) {
	if c.former && !c.isOwn() {
		e.out.Store.Forget = append(e.out.Store.Forget, Former{c.id, entry.ClientID})
	}
}

// bringBack reads more of what is kept aside, if there is room for it.
func (e *Engine) bringBack() {
	o := &e.outbox
	if len(e.former.list) == 0 || !e.sync.listed || e.doubts.count > 0 || len(o.failed) > maxFailed/2 ||
		len(o.byID)+backPage > maxOutbox || o.bytes+backPage*pim.MaxPayload > maxOutboxBytes {
		return
	}
	for _, c := range e.former.list {
		if c.back > 0 && !e.stuck(c) || c.behind() || c.target != 0 || c.pulling || c.reading || !c.followed {
			continue
		}
		r := Read{Former: true, Limit: backPage}
		if c.isOwn() {
			r.Skip, r.Limit = e.former.skip, commandPage
		}
		c.reading = true
		e.fetch(c, r, e.formerRead)
		return // the next one in the step that answers
	}
}

// stuck reports whether all messages of c that are sent again were refused, and it was
// not looked yet whether the create of the group is kept aside.
func (e *Engine) stuck(c *conversation) bool {
	if c.peeked || c.back > len(e.outbox.failed) {
		return false
	}
	n := 0
	for _, m := range e.outbox.failed {
		if m.Again && m.Conversation == c.id {
			n++
		}
	}
	return n == c.back
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
	if c.back > 0 { // only the create helps those
		if c.peeked = true; entries[0].Kind != pim.EntryCreate {
			return
		}
	}
	for i := range entries {
		entry := &entries[i]
		e.out.Store.Forget = append(e.out.Store.Forget, Former{c.id, entry.ClientID})
		e.sendAgain(entry)
		if entry.Kind == pim.EntryCreate {
			return // nothing behind it can be sent before it is there
		}
	}
}

// sendAgain queues what the user sent as entry.
func (e *Engine) sendAgain(entry *pim.Entry) {
	out := Outgoing{
		ID: entry.ClientID, Conversation: entry.Conversation, Kind: entry.Kind, Members: entry.Members,
		Payload: entry.Payload, Again: true,
	}
	if entry.Kind == pim.EntryCreate {
		out.Conversation = ""
	}
	o := &e.outbox
	if o.byID[out.ID] != nil {
		return
	}
	e.meta.Number++
	e.metaDirty = true
	m := newMessage(out)
	m.Number, m.Local, m.Queued = e.meta.Number, entry.Local, e.clock.at(e.now)
	o.byID[m.ID] = m
	o.bytes += len(m.Payload)
	e.countBack(m, 1)
	o.enter(m)
	e.store(m)
	e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Queued})
}

// countBack counts the messages of a conversation that are sent again.
func (e *Engine) countBack(m *message, n int) {
	if !m.Again {
		return
	}
	id := m.Conversation
	if id == "" {
		id = pim.NewGroup(e.meta.User, m.ID)
	}
	if c := e.conversations[id]; c != nil {
		c.back += n
	}
}

// refuse takes the server's refusal of m, which is for good.
func (e *Engine) refuse(m *message, err *pim.Error) {
	if m.Again && (m.Kind == pim.EntryJoin || m.Kind == pim.EntryLeave) {
		e.leaveOutbox(m, SendEvent{State: Discarded}) // others have brought that back, or nobody can
		return
	}
	e.fail(m, err)
}

// revive sends again what was refused since the group was not there yet.
func (e *Engine) revive(c *conversation) {
	if c.back == 0 {
		return
	}
	for _, m := range slices.Clone(e.outbox.failed) {
		if m.Again && m.Conversation == c.id && m.Failed.Kind == pim.KindNotMember {
			e.outbox.land(m)
			m.Failed, m.attempt, m.resends, m.refusals = nil, 0, 0, 0
			e.outbox.enter(m)
			e.store(m)
			e.emit(SendEvent{ID: m.ID, Conversation: m.Conversation, State: Queued})
		}
	}
}

// forgetSettings empties the settings: the own log is obeyed anew.
func (e *Engine) forgetSettings() {
	if e.former.cleared == nil {
		e.former.cleared = make(map[string]bool, len(e.settings))
	}
	for entity := range e.settings {
		e.former.cleared[entity] = true
	}
	clear(e.settings)
}

// obeyed notes how old the command is that came last for an entity.
func (f *former) obeyed(entity string, local pim.Millis) {
	if f.locals != nil {
		f.locals[entity] = max(f.locals[entity], local)
	}
}

// commandsRead takes commands that are kept aside. After the last of them it sends those again
// that were the last of their entity, and that no later one has replaced since.
func (e *Engine) commandsRead(c *conversation, entries []pim.Entry) {
	f := &e.former
	for _, entry := range entries {
		cmd, err := wire.ParseCommand(entry.Payload)
		if err != nil || entry.Kind != pim.EntryCommand {
			continue
		}
		w := f.wishes[cmd.Entity()]
		if w.setting.Apply(&cmd, entry.Seq, entry.Device) {
			w.entry = entry
			f.wishes[cmd.Entity()] = w
		}
	}
	f.skip += len(entries)
	if len(entries) == commandPage {
		return
	}
	all := true
	for _, entity := range slices.Sorted(maps.Keys(f.wishes)) {
		if len(e.outbox.byID) >= maxOutbox {
			all = false // the rest when these are through
			break
		}
		if w := f.wishes[entity]; e.stillWished(entity, &w) {
			w.setting.Known = c.known
			w.entry.Payload = wire.AppendCommand(nil, &w.setting.Command)
			e.sendAgain(&w.entry)
		}
	}
	for _, entity := range slices.Sorted(maps.Keys(f.cleared)) {
		e.showSetting(entity)
	}
	f.skip, f.cleared = 0, nil
	if all {
		e.out.Store.Forget = append(e.out.Store.Forget, Former{Conversation: c.id})
		e.noFormer(c)
	}
}

// stillRead cuts a read position to what is still there of its conversation, and
// reports whether anything is. When the process has died in between it is not known.
func (e *Engine) stillRead(entity string, cmd *pim.Command) bool {
	if e.former.reads == nil {
		return false
	}
	if cut, ok := e.former.reads[entity]; ok && cut.Seq < cmd.Seq {
		cmd.Seq, cmd.Count = cut.Seq, cut.Count
	}
	c := e.conversations[pim.ConversationID(cmd.Subject)]
	return cmd.Seq > 0 && c != nil && cmd.Seq <= c.known
}

// stillWished reports whether a command that is kept aside is to be given again. Of a
// read position it takes what is left of it.
func (e *Engine) stillWished(entity string, w *wish) bool {
	now, known := e.settings[entity]
	cmd := &w.setting.Command
	switch {
	case e.outbox.lanes[laneKey{conversation: pim.Own(e.meta.User), entity: entity}] != nil:
		return false // there is a newer one
	case cmd.Kind == pim.CommandRead:
		return e.stillRead(entity, cmd) && cmd.Seq > now.Seq
	case !known:
		return true
	case now.Removed == cmd.Removed && now.Until == cmd.Until && bytes.Equal(now.Value, cmd.Value) && bytes.Equal(now.Unknown, cmd.Unknown):
		return false
	}
	return e.former.locals[entity] < w.entry.Local
}
