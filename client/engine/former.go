package engine

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// When a conversation is taken back, the store keeps aside the entries that the user
// sent and the server has lost. An entry that then comes by a push or a pull is not kept
// aside any more. When all that the server has now was pulled, the entries that are still
// kept aside are not there. They are sent again, with the same client message IDs and the
// same local times: they enter the outbox (Outgoing.Again), a page at a time. Every
// device of the user does that. The client message ID gives an entry one effect; if
// another device brought it back longer ago than the server remembers, it was pulled.

const (
	backPage    = 32   // messages of a conversation that are sent again at once
	commandPage = 1000 // commands that are read at once
)

// former is what the engine knows of the entries that are kept aside. The maps have
// entities of the user's own log as keys.
type former struct {
	list   []*conversation // those that may have entries kept aside, by ID
	skip   int             // commands of the own log that were read so far
	wishes map[string]wish // what these come to
	// locals are the local times of the newest commands that were obeyed since the own
	// log was taken back; nil: they are not noted.
	locals  map[string]pim.Millis
	cleared map[string]bool // the settings that forgetSettings dropped
	// reads are the last read positions that are still there, of the conversations that
	// were taken back; nil: an earlier process took them back, so they are not known.
	reads map[string]pim.Command
}

// wish is the last command that is kept aside of one entity.
type wish struct {
	setting pim.Setting
	entry   pim.Entry
}

// restoreFormer goes on with what an earlier process kept aside. The own log is pulled
// anew: how old its commands are (former.locals) is noted only while they are obeyed.
func (e *Engine) restoreFormer(ids []pim.ConversationID) {
	e.former.reads = make(map[string]pim.Command)
	for _, id := range ids {
		c := e.conversations.add(id)
		if c.isOwn() {
			e.takeBack(c, 0, 0, "") // what was stored since is not kept aside: the server has it
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

// dropAhead drops the entries of c that wait ahead of a gap. Those that the user sent
// are kept aside: the server has acknowledged them, so they are not in the outbox any
// more.
func (e *Engine) dropAhead(c *conversation) {
	for i := range c.ahead {
		if entry := &c.ahead[i]; entry.Sender == e.meta.User {
			e.out.Store.Keep = append(e.out.Store.Keep, *entry)
			e.keepFormer(c)
		}
	}
	e.conversations.clearAhead(c)
}

// noFormer notes that nothing of c is kept aside any more.
func (e *Engine) noFormer(c *conversation) {
	c.former = false
	e.former.list = slices.DeleteFunc(e.former.list, func(other *conversation) bool { return other == c })
	if c.isOwn() {
		e.former = former{list: e.former.list, reads: make(map[string]pim.Command)}
	}
}

// cameBack takes an entry of this user's that the server has: if it is kept aside, it is
// not to be sent again.
func (e *Engine) cameBack(c *conversation, entry *pim.Entry) {
	if c.former && !c.isOwn() {
		e.out.Store.Forget = append(e.out.Store.Forget, Former{c.id, entry.ClientID})
	}
}

// bringBack reads more of what is kept aside, if there is room for it.
func (e *Engine) bringBack() {
	o := &e.outbox
	if len(e.former.list) == 0 || !e.sync.listed || e.doubts.count > 0 || len(o.failed) > maxFailed/2 ||
		!o.fits(backPage, backPage*pim.MaxPayload) {
		return
	}
	for _, c := range e.former.list {
		if c.back > 0 && !o.stuck(c) || c.behind() || c.target != 0 || c.pulling || c.reading || !c.followed {
			continue
		}
		r := Read{Former: true, Limit: backPage}
		if c.isOwn() {
			r.Skip, r.Limit = e.former.skip, commandPage
		}
		c.reading = true
		e.fetch(c, r, e.formerRead)
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
			return // what follows can't be sent before the group is there
		}
	}
}

// sendAgain queues again the message whose entry the server has lost.
func (e *Engine) sendAgain(entry *pim.Entry) {
	out := Outgoing{
		ID: entry.ClientID, Conversation: entry.Conversation, Kind: entry.Kind, Members: entry.Members,
		Payload: entry.Payload, Local: entry.Local, Again: true,
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

// forgetSettings drops all settings, because the own log will be obeyed anew.
func (e *Engine) forgetSettings() {
	if e.former.cleared == nil {
		e.former.cleared = make(map[string]bool, len(e.settings))
	}
	for entity := range e.settings {
		e.former.cleared[entity] = true
	}
	clear(e.settings)
}

// obeyed notes the local time of a command that was obeyed for entity.
func (f *former) obeyed(entity string, local pim.Millis) {
	if f.locals != nil {
		f.locals[entity] = max(f.locals[entity], local)
	}
}

// commandsRead takes a page of commands that are kept aside. After the last page it sends
// again the last command of each entity, unless a later one has replaced it since.
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
			all = false // the rest is sent when these have left the outbox
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

// stillRead cuts a read position to the part of its conversation that is still there,
// and reports whether there is any. If the process has died in between, that is not
// known, and the position is given up.
func (e *Engine) stillRead(entity string, cmd *pim.Command) bool {
	if e.former.reads == nil {
		return false
	}
	if cut, ok := e.former.reads[entity]; ok && cut.Seq < cmd.Seq {
		cmd.Seq, cmd.Count = cut.Seq, cut.Count
	}
	c := e.conversations.byID[pim.ConversationID(cmd.Subject)]
	return cmd.Seq > 0 && c != nil && cmd.Seq <= c.known
}

// stillWished reports whether a command that is kept aside is to be sent again. It cuts
// a read position as stillRead does.
func (e *Engine) stillWished(entity string, w *wish) bool {
	now, known := e.settings[entity]
	cmd := &w.setting.Command
	switch {
	case len(e.outbox.commands(pim.Own(e.meta.User), entity)) > 0:
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
