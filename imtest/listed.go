package imtest

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Listed is what a device's list shows of a conversation, besides its last message.
type Listed struct {
	Read   pim.Seq // how far the user has read it; 0: no read command says so
	Unread uint64
	// Mentions are those of the Unread that mention the user, by name or all.
	Mentions uint64
	Marked   bool // as unread
}

// List returns what the list of every device of user has to show of c. own is the user's own
// log, log has what the user may read of c; both ascend. List reads them in their order, and
// knows nothing of pim.Setting and of the counts of entries.
func List(c pim.ConversationID, user pim.UserID, own, log []pim.Entry) (l Listed) {
	var mark flag
	for i := range own {
		e := &own[i]
		cmd, err := wire.DecodeCommand(e.Payload)
		switch {
		case err != nil || cmd.Subject != string(c):
		case cmd.Kind == pim.CommandRead && (cmd.Seq > l.Read || cmd.Replaces):
			l.Read = cmd.Seq
		case cmd.Kind == pim.CommandUnread:
			mark.take(e, &cmd)
		}
	}
	l.Marked = mark.on
	for i := range log {
		e := &log[i]
		message := e.Kind == pim.EntryMessage
		joined := (e.Kind == pim.EntryCreate || e.Kind == pim.EntryJoin) && slices.Contains(e.Members, user)
		switch {
		case e.Seq <= l.Read, message && e.Sender == user, joined:
			l.Unread, l.Mentions = 0, 0
		case message:
			l.Unread++
			if e.MentionAll || names(e, user) {
				l.Mentions++
			}
		}
	}
	return l
}
