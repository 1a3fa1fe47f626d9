package conv

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Request asks a writer to append one entry. The writer owns it from Submit on
// until it has answered it.
type Request struct {
	Conversation pim.ConversationID // empty for EntryCreate
	Kind         pim.EntryKind
	Sender       pim.UserID // authenticated
	Device       pim.DeviceID
	ClientID     pim.ClientMessageID
	Local        pim.Millis
	Attempt      uint32       // as pim.Sending
	Age          pim.Millis   // as pim.Sending
	Members      []pim.UserID // for create, join and leave
	Payload      []byte
	Origin       Origin // to whom the answer goes; opaque to the writer

	command *pim.Command // of an EntryCommand, decoded
	read    reading      // of a read command
	tries   int          // how often a commit that held it has failed
	set     pim.Millis   // as pim.Moment
}

// Origin is whatever the Outlet needs to find who sent a Request.
type Origin any

// Answer is what became of a Request.
type Answer struct {
	Request   *Request
	Err       error // a *pim.Error; the rest is unset
	Seq       pim.Seq
	Anchor    pim.Seq
	Count     uint64
	Server    pim.Millis
	Ahead     pim.Millis
	Order     pim.Millis
	Duplicate bool   // an earlier transmission was appended, this is its answer
	Payload   []byte // the entry's, where it is not the Request's: of a read command
}

// Published are the entries that one commit added to a conversation.
type Published struct {
	Conversation pim.ConversationID
	Entries      []Encoded    // ascending by seq
	Members      []pim.UserID // read all of Entries; shared, not to be changed
	Partly       []Reader     // joined or left on the way
}

// Encoded is an entry as its bytes (see wire.AppendEntry), and who sent it.
type Encoded struct {
	Seq    pim.Seq
	Sender pim.UserID
	Device pim.DeviceID
	Data   []byte
}

// Reader is a user who reads the entries From to To only.
type Reader struct {
	User     pim.UserID
	From, To pim.Seq
}

// Outlet takes what a commit has made durable. Deliver is called from one
// goroutine for each shard; it must not block on a slow receiver, and must hand
// out the answers before the pushes of the same call. The slices, and the bytes
// in them, are the writer's again when it returns.
type Outlet interface {
	Deliver(answers []Answer, pushes []Published)
}

// check validates what can be validated without the conversation's state, and
// gives a create its conversation ID.
func (r *Request) check() error {
	if r.ClientID.IsZero() {
		return pim.Errorf(pim.KindInvalid, "the client message ID is missing")
	}
	if len(r.Payload) > pim.MaxPayload {
		return payloadTooLarge.tooLarge("a payload of %d bytes, at most %d are allowed", len(r.Payload), pim.MaxPayload)
	}
	if err := r.checkName(); err != nil {
		return err
	}
	if _, own := r.Conversation.OwnUser(); own != (r.Kind == pim.EntryCommand) {
		return pim.Errorf(pim.KindInvalid, "a user's own log takes commands, and nothing else does")
	}
	switch r.Kind {
	case pim.EntryMessage:
		if len(r.Members) > 0 {
			return pim.Errorf(pim.KindInvalid, "a message has no members")
		}
		return nil
	case pim.EntryCommand:
		return r.checkCommand()
	case pim.EntryCreate:
		if r.Conversation != "" {
			return pim.Errorf(pim.KindInvalid, "the server gives out a new group's ID, the request must not")
		}
		r.Conversation = pim.NewGroup(r.Sender, r.ClientID)
	case pim.EntryJoin, pim.EntryLeave:
		if !r.Conversation.IsGroup() {
			return pim.Errorf(pim.KindInvalid, "nobody joins or leaves a direct conversation")
		}
		if len(r.Members) == 0 && r.Kind == pim.EntryLeave {
			r.Members = []pim.UserID{r.Sender}
		}
		if len(r.Members) == 0 {
			return pim.Errorf(pim.KindInvalid, "a join names whom it adds")
		}
	default:
		return pim.Errorf(pim.KindUnsupported, "entry kind %d is not known", r.Kind)
	}
	for _, u := range r.Members {
		if err := u.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// checkName refuses who is no member by the conversation's name alone: what it takes
// to load somebody else's conversation is not a stranger's to spend.
func (r *Request) checkName() error {
	if r.Kind == pim.EntryCreate {
		return nil // it has no name yet
	}
	if err := r.Conversation.Validate(); err != nil {
		return err
	}
	if r.Conversation.Excludes(r.Sender) {
		return notMember(r.Sender, r.Conversation)
	}
	return nil
}

func notMember(u pim.UserID, c pim.ConversationID) error {
	return pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", u, c)
}

// moment returns when r is written, if that is now.
func (r *Request) moment(now pim.Millis) pim.Moment { return pim.Moment{Now: now, Set: r.set} }

// sending returns what r says of its time.
func (r *Request) sending() pim.Sending {
	return pim.Sending{Local: r.Local, Attempt: r.Attempt, Age: r.Age}
}

// size is what r takes up in memory, in bytes, about.
func (r *Request) size() int64 {
	if _, mark := r.Origin.(drained); mark {
		return 0
	}
	const each, member = 512, 48
	return int64(each + len(r.Payload) + member*len(r.Members))
}

// blocks reports whether r is a command that sets or lifts a block.
func (r *Request) blocks() bool { return r.command != nil && r.command.Kind == pim.CommandBlock }

func (r *Request) checkCommand() error {
	if len(r.Members) > 0 {
		return pim.Errorf(pim.KindInvalid, "a command has no members")
	}
	cmd, err := wire.ParseCommand(r.Payload)
	r.command = &cmd
	return err
}
