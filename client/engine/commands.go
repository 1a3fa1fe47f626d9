package engine

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Commands change what the user keeps: contacts, blocks, mutes, pins, read
// positions. A command is a message to the user's own log: the same outbox, resends,
// deduplication and sync serve it. Their result is in settings, the same on every
// device, since it follows from that log alone (pim.Setting.Apply). The app is shown
// each setting as it will be, with the commands of this device that are still on their
// way.

const maxSubject = 1 << 10 // bytes of a command's subject: a conversation's or user's ID has far less

// do takes a command into the outbox.
func (e *Engine) do(in Do) error {
	user := e.user()
	switch {
	case e.cfg.Watch:
		return pim.Errorf(pim.KindInvalid, "with Options.Watch the user's own log is not followed")
	case user == "":
		return pim.Errorf(pim.KindUnavailable, "the user is not known before the first connection, unless Options.User names it")
	}
	cmd := in.Command
	cmd.Value = slices.Clone(cmd.Value)
	log := pim.Own(user)
	if c := e.conversations.byID[log]; c != nil {
		cmd.Known = c.known
	}
	cmd.Known = max(cmd.Known, e.foretold[cmd.Entity()].At) // the user has seen that
	if err := cmd.Validate(); err != nil {
		return err
	}
	if err := checkRead(e.conversations.byID[pim.ConversationID(cmd.Subject)], &cmd); err != nil {
		return err
	}
	out := Outgoing{ID: in.ID, Conversation: log, Kind: pim.EntryCommand, Payload: wire.AppendCommand(nil, &cmd)}
	if err := e.outbox.check(&out); err != nil {
		return err
	}
	if e.settings.full(cmd.Entity()) {
		return pim.Errorf(pim.KindOverloaded, "%d contacts, blocks, mutes, pins and read positions are kept", len(e.settings))
	}
	if e.coalesce(in.ID, &cmd) {
		return nil
	}
	e.outbox.queue(newMessage(out))
	e.showSetting(cmd.Entity())
	if c := e.conversations.byID[pim.ConversationID(cmd.Subject)]; c != nil && cmd.Kind == pim.CommandRead {
		e.readUpTo(c)
	}
	return nil
}

// checkRead refuses a read command of c that cannot be right, as far as this device knows
// the conversation: read positions only grow, so one beyond the log would hide everything
// to come. c is nil if nothing is known of it.
func checkRead(c *conversation, cmd *pim.Command) error {
	switch {
	case cmd.Kind != pim.CommandRead:
	case c == nil:
		return pim.Errorf(pim.KindInvalid, "read up to seq %d of %s, of which this device knows nothing", cmd.Seq, cmd.Subject)
	case cmd.Seq > c.newest:
		return pim.Errorf(pim.KindInvalid, "read up to seq %d of %s, whose last known seq is %d", cmd.Seq, cmd.Subject, c.newest)
	case cmd.Seq == c.counted:
		cmd.Count, cmd.Named, cmd.All = c.count, c.said.Named, c.said.All
	case cmd.Count > uint64(cmd.Seq) || cmd.Seq < c.counted && cmd.Count > c.count:
		return pim.Errorf(pim.KindInvalid, "read up to seq %d of %s and %d messages: so many are not there", cmd.Seq, cmd.Subject, cmd.Count)
	}
	return nil
}

// coalesce drops a command that cmd, with the given ID, makes pointless: the last one
// of the same entity, if that was not transmitted yet. It reports whether cmd itself is
// pointless, because everything that it marks as read is read.
func (e *Engine) coalesce(id pim.ClientMessageID, cmd *pim.Command) bool {
	entity := cmd.Entity()
	var last *message
	if pending := e.outbox.commands(pim.Own(e.user()), entity); len(pending) > 0 {
		last = pending[len(pending)-1]
	}
	c := e.conversations.byID[pim.ConversationID(cmd.Subject)]
	if now, _ := e.setting(entity); cmd.Kind == pim.CommandRead && cmd.Seq <= now.Seq && !beyond(c, now.Seq) {
		ev := SendEvent{ID: id, Conversation: pim.Own(e.user()), State: Superseded}
		if last != nil {
			ev.By = last.ID
		}
		e.emit(ev)
		return true
	}
	if last != nil && last.state == Queued {
		e.outbox.leave(last, SendEvent{State: Superseded, By: id})
	}
	return false
}

// beyond reports whether a read position lies above the newest seq that this device knows
// of its conversation c. Such a position does not count here; the server decides.
func beyond(c *conversation, read pim.Seq) bool { return c != nil && read > c.newest }

// setting returns what entity will come to, and whether that depends on commands in
// the outbox.
func (e *Engine) setting(entity string) (s pim.Setting, pending bool) {
	commands := e.outbox.commands(pim.Own(e.user()), entity)
	return with(e.foretold.over(entity, e.settings[entity]), commands, e.cfg.Device), len(commands) > 0
}

func (e *Engine) showSetting(entity string) {
	s, pending := e.setting(entity)
	if s.At != 0 && !s.Kind.Known() {
		return
	}
	e.emit(SettingEvent{Entity: entity, Setting: s, Pending: pending})
}

// showPending shows, at the start, the settings that commands of an earlier process
// will change.
func (e *Engine) showPending() {
	var entities []string
	for key := range e.outbox.lanes {
		if key.entity != "" {
			entities = append(entities, key.entity)
		}
	}
	slices.Sort(entities)
	for _, entity := range entities {
		e.showSetting(entity)
	}
}

// obey takes an entry of the user's own log. A command whose kind this version does not
// know is kept for a later version, by the rules of all kinds but read. The app is not
// told of it.
func (e *Engine) obey(entry *pim.Entry) {
	cmd, err := wire.DecodeCommand(entry.Payload)
	if entry.Kind != pim.EntryCommand || err != nil || len(cmd.Subject) > maxSubject {
		return
	}
	entity := cmd.Entity()
	if e.settings.full(entity) {
		return
	}
	e.wishes.obeyed(entity, entry.Local)
	apply := e.settings.apply
	if cmd.Kind == pim.CommandRead {
		apply = e.applyRead
	}
	if apply(entity, &cmd, entry.Seq, entry.Device) {
		e.out.Store.Settings = append(e.out.Store.Settings, Setting{entity, e.settings[entity]})
	}
	e.showSetting(entity)
}

// commandOf returns the command of a message in the outbox.
func commandOf(out *Outgoing) *pim.Command {
	cmd, err := wire.DecodeCommand(out.Payload)
	if err != nil {
		// The store is damaged. The server will refuse the message, and the app hears of it.
		return &pim.Command{Subject: out.ID.String()}
	}
	return &cmd
}
