package conv

import (
	"bytes"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
)

// A read command names a seq of another conversation. The user must be able to read the entry
// at that seq. The command has the count of that entry, and says how often the user was mentioned
// up to it, whatever the client says. Submit looks all of that up in the goroutine of its caller,
// which is the one that reads from the client's connection, so no driver waits for it. step judges
// the result only after it has looked for a duplicate, since a command that was appended once
// keeps its first answer.

// reading is what was found about the position in a read command.
type reading struct {
	newest pim.Seq // the last seq that the user may read in the conversation
	err    error   // why there is no such position
}

// lookUpRead looks the position of cmd up, and sets what the server says about it.
func (w *Writers) lookUpRead(user pim.UserID, cmd *pim.Command) (at reading) {
	p, err := inbox.New(w.store).Position(w.ctx, user, pim.ConversationID(cmd.Subject), cmd.Seq)
	cmd.Count, cmd.Named, cmd.All = p.Count, p.Named, p.All
	return reading{p.Newest, err}
}

// needsRead reports whether the user's present position is beyond the newest entry found for
// r, a read command. Then others may have written since that look-up, and another device of
// the user may have read what they wrote.
func (l *live) needsRead(r *Request) bool {
	return r.read.err == nil && l.settings[r.command.Entity()].Seq > r.read.newest
}

// readAgain looks the position of r up again if needsRead says so. Otherwise payload would
// take the present position for one beyond the conversation's end.
func (w *Writers) readAgain(l *live, r *Request) {
	if r.reads() && l.needsRead(r) {
		r.read = w.lookUpRead(r.Sender, r.command)
	}
}

// payload returns the payload of the entry of r, a read command: r.command with the count that
// the server found, encoded. payload sets r.command.Replaces if the user's present position is
// beyond the conversation's end; earlier versions accepted such positions. It sets r.command.Shown if
// others learn of the position.
func (c *conversation) payload(r *Request) []byte {
	cmd, present := r.command, c.settings[r.command.Entity()].Seq
	cmd.Replaces = present > r.read.newest
	cmd.Shown = !c.hidden && (cmd.Seq > present || cmd.Replaces)
	if data := wire.AppendCommand(nil, r.command); !bytes.Equal(data, r.Payload) {
		return data
	}
	return r.Payload
}
