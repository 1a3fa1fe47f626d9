package conv

import (
	"bytes"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
)

// A read command speaks of another conversation: its seq must be there for the user,
// and its count is that of the entry there, whatever the client says. That is looked up
// by who submits the command, which is the client's own reading goroutine: no shard
// waits for it. It is judged in step, behind the look for a duplicate, since what was
// appended once keeps its first answer.

// reading is what a read command was found to say.
type reading struct {
	newest pim.Seq // of the conversation, as the user may read it
	err    error   // why there is no such position
}

// check validates r, and looks up what a read command says.
func (w *Writers) check(r *Request) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.reads() {
		r.read = w.lookUpRead(r.Sender, r.command)
	}
	return nil
}

// reads reports whether r is a read command.
func (r *Request) reads() bool { return r.command != nil && r.command.Kind == pim.CommandRead }

// lookUpRead sets cmd's count to the log's.
func (w *Writers) lookUpRead(user pim.UserID, cmd *pim.Command) (at reading) {
	at.newest, cmd.Count, at.err = inbox.New(w.store).Position(w.ctx, user, pim.ConversationID(cmd.Subject), cmd.Seq)
	return at
}

// readAgain looks up anew what r says where the position in force is beyond what was
// found: others may have written, and read that, between the look and the step. So no
// position is taken for one that is none.
func (s *shard) readAgain(l *live, r *Request) {
	if r.reads() && r.read.err == nil && l.settings[r.command.Entity()].Seq > r.read.newest {
		r.read = s.lookUpRead(r.Sender, r.command)
	}
}

// payload returns what the log is to hold of r, and sees to it that r's command says
// the same: of a read what the server found. It replaces a position in force that is
// beyond the conversation, as earlier versions took them.
func (c *conversation) payload(r *Request) []byte {
	if !r.reads() {
		return r.Payload
	}
	r.command.Replaces = c.settings[r.command.Entity()].Seq > r.read.newest
	if data := wire.AppendCommand(nil, r.command); !bytes.Equal(data, r.Payload) {
		return data
	}
	return r.Payload
}
