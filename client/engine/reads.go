package engine

import (
	"slices"

	"github.com/pim-im/pim"
)

// How far the user has read a conversation is the higher of two: the read position, and the
// newest entry that makes all before it read (effects.reads). Both may move because of another
// device of the user, as the user's own log, an own message or the sync list tell. Then the app is
// told once (ReadEvent). conversation.readTo is how far the user had read when this was last looked
// at. Whoever changes one of the two looks before the change and after it.

// readEntity is the entity of the read position in conv.
func readEntity(conv pim.ConversationID) string {
	cmd := pim.Command{Kind: pim.CommandRead, Subject: string(conv)}
	return cmd.Entity()
}

// readUpTo returns the seq up to which the user has read c, commands in the outbox included.
// It does not go back, unless c was taken back or a read command replaces what was not valid.
func (e *Engine) readUpTo(c *conversation) pim.Seq {
	s, _ := e.setting(readEntity(c.id))
	c.readTo = max(c.readTo, c.own, s.Seq)
	return c.readTo
}

// readMoved tells the app if the user has read more of c than at the last call of readUpTo, unless
// silent: then this device has moved it, or c is new to this device, so that there is nothing
// to take away.
func (e *Engine) readMoved(c *conversation, silent bool) {
	was := c.readTo
	if now := e.readUpTo(c); now > was && !silent {
		e.emit(ReadEvent{Conversation: c.id, Seq: now})
	}
}

// readBy takes note of what an entry of c mentions, and of the entry itself if it makes everything
// before it read. c is to hear of the entry after that.
func (e *Engine) readBy(c *conversation, entry *pim.Entry) {
	e.mentions(c, entry)
	if entry.Seq <= c.own || !e.makesRead(entry) {
		return
	}
	e.readUpTo(c)
	e.reads(c, entry)
	here := entry.Sender == e.user() && entry.Device == e.meta.Device
	e.readMoved(c, here || c.newest == 0)
}

// readInList tells the app if the sync list has moved how far the user has read c. What moved
// may be a message of this device whose answer is still to come, unless the user has left the group.
// Nothing else in that lane moves it.
func (e *Engine) readInList(c *conversation, isNew bool) {
	l := e.outbox.lanes[laneKey{conversation: c.id}]
	mine := l != nil && slices.ContainsFunc(l.messages, func(m *message) bool { return m.Kind == pim.EntryMessage && m.Local != 0 })
	e.readMoved(c, isNew || !c.left && mine)
}

// applyRead is settings.apply for a read command. It tells the app, but not of a conversation
// that is new to this device.
func (e *Engine) applyRead(entity string, cmd *pim.Command, seq pim.Seq, device pim.DeviceID) (changed bool) {
	c := e.conversations.byID[pim.ConversationID(cmd.Subject)]
	if c == nil {
		return e.settings.apply(entity, cmd, seq, device)
	}
	e.readUpTo(c)
	changed = e.settings.apply(entity, cmd, seq, device)
	if changed && cmd.Replaces {
		c.readTo = 0
	}
	e.readMoved(c, c.newest == 0 || cmd.Replaces) // what this device has said counts already
	return changed
}
