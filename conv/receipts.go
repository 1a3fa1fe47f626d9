package conv

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// How far users have read a conversation is kept in its read cells (inbox.Reads), for those who
// ask who has read a message. Two writers write them: that of a user's own log with the read
// commands, and that of a group with the messages that the user sends. Both write them with the
// entries, and a writer that takes a log over writes those again that may be missing, as with
// every projection. The settings do not tell which: of one batch, or of a tail, they have the last
// read of a conversation only, and that may be hidden although an earlier one was shown. So each
// read command itself says whether its position was shown.
//
// While no-receipts is in force, the own log's writer shows no positions, so nobody ever sees
// what was read meanwhile. A group's writer does not know about it: those who ask leave such a
// user out. They do so by a cell in a list of all who have ever switched (inbox.Hidden). It is
// written when a no-receipts command is durable, and before it is answered: an effect, see
// effects.go.

// sent is a message: its seq, and when it was written.
type sent struct {
	seq pim.Seq
	at  pim.Millis
}

// noteSent notes e as the newest message of its sender, if e is a message of a group.
func (c *conversation) noteSent(e *pim.Entry) {
	if e.Kind == pim.EntryMessage && c.members != nil {
		if m := c.members[e.Sender]; m != nil {
			m.sent = e.Seq
		}
	}
}

// takeSent applies an entry of a log that is being loaded.
func (l *live) takeSent(e *pim.Entry) {
	if e.Kind != pim.EntryMessage || !l.id.IsGroup() {
		return
	}
	if l.unsettledSent == nil {
		l.unsettledSent = make(map[pim.UserID]sent)
	}
	l.unsettledSent[e.Sender] = sent{e.Seq, e.Server}
}

// appendSent appends the read cells of those who sent the messages of b, a batch of a group.
func (b *batch) appendSent(cells []store.CellWrite) []store.CellWrite {
	c := b.conv
	for u, s := range c.unsettledSent {
		cells = append(cells, store.CellWrite{Partition: c.reads, Cell: inbox.ReadCell(u, s.seq, s.at)})
	}
	for i := range b.entries {
		e := &b.entries[i]
		if m := c.members[e.Sender]; e.Kind != pim.EntryMessage || m == nil || m.sent != e.Seq {
			continue // a later message of the sender is in b
		}
		at := len(b.arena)
		b.arena = inbox.AppendReadValue(b.arena, e.Server)
		cells = append(cells, store.CellWrite{
			Partition: c.reads, Cell: store.Cell{Key: string(e.Sender), Version: uint64(e.Seq), Value: b.arena[at:len(b.arena):len(b.arena)]},
		})
	}
	return cells
}

// appendRead appends the read cell for shown, a position of entity that others may know of. Without
// one it appends nothing.
func (b *batch) appendRead(cells []store.CellWrite, entity string, shown sent) []store.CellWrite {
	c := b.conv
	read := pim.ConversationID(c.settings[entity].Subject)
	if _, own := read.OwnUser(); own || shown.seq == 0 {
		return cells
	}
	b.reads = append(b.reads, read)
	owner, _ := c.id.OwnUser()
	return append(cells, store.CellWrite{Partition: inbox.Reads(read), Cell: inbox.ReadCell(owner, shown.seq, shown.at)})
}

// shown returns the position that cmd, the command of e, makes known to others, or none.
func shown(e *pim.Entry, cmd *pim.Command) sent {
	if !cmd.Shown {
		return sent{}
	}
	return sent{cmd.Seq, e.Server}
}

// noReceipts returns the entity of the user's no-receipts command.
func noReceipts(user pim.UserID) string {
	cmd := pim.Command{Kind: pim.CommandNoReceipts, Subject: string(user)}
	return cmd.Entity()
}

// hidingEffect returns the write by which the no-receipts s of owner reaches those who ask who has
// read a message.
func hidingEffect(owner pim.UserID, s *setting) *store.Write {
	return &store.Write{Cells: []store.CellWrite{{Partition: inbox.Hidden, Cell: inbox.HiddenCell(owner, s.At, !s.Removed)}}}
}
