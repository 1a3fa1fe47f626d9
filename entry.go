package pim

// EntryKind says what an entry does, as on the wire. A client keeps an entry of a
// kind that it does not know, and shows or skips it, so kinds can be added.
type EntryKind uint32

const (
	EntryMessage EntryKind = 1 // a message; the only kind that counts as unread
	EntryCreate  EntryKind = 2 // the group came into being; Members are its first members
	EntryJoin    EntryKind = 3 // Members joined and read from this entry on
	EntryLeave   EntryKind = 4 // Members left; this entry is the last they read
	EntryCommand EntryKind = 5 // in a user's own log: the payload is an encoded Command

	// These refer to a message, see Fold.
	EntryEdit     EntryKind = 6 // Payload takes the place of the message's
	EntryRecall   EntryKind = 7 // the message is taken back
	EntryReaction EntryKind = 8 // the sender reacts with Reaction, or takes that back
	EntryPin      EntryKind = 9 // the message is pinned for all, or no longer

	EntryErase EntryKind = 10 // what its sender wrote up to Refers is erased, see Erasure

	EntryRetain EntryKind = 11 // for how long the entries of the conversation are kept: Retain
)

// Counts reports whether an entry of this kind adds one to Entry.Count.
func (k EntryKind) Counts() bool { return k == EntryMessage }

// String returns the kind's stable name, as in JSON.
func (k EntryKind) String() string {
	switch k {
	case EntryMessage:
		return "message"
	case EntryCreate:
		return "create"
	case EntryJoin:
		return "join"
	case EntryLeave:
		return "leave"
	case EntryCommand:
		return "command"
	case EntryEdit:
		return "edit"
	case EntryRecall:
		return "recall"
	case EntryReaction:
		return "reaction"
	case EntryPin:
		return "pin"
	case EntryErase:
		return "erase"
	case EntryRetain:
		return "retain"
	}
	return "unknown"
}

// Entry is one position of a conversation's log. It never changes, but its payload may be erased.
type Entry struct {
	Conversation ConversationID
	Seq          Seq
	Anchor       Seq    // place in the display order, see Place
	Count        uint64 // counting messages in the log up to and including this entry
	Kind         EntryKind
	Sender       UserID
	Device       DeviceID // the sender's device
	ClientID     ClientMessageID
	Local        Millis    // the sender's calibrated clock at the first transmission
	Server       Millis    // server time: the writer's clock plus Ahead; never decreases with Seq
	Ahead        Millis    // how far Server is ahead of the writer's clock: 0 unless that clock was set back, see Times
	Order        Millis    // L', if it does not follow from Local, Server and Ahead; else 0; see OrderTime
	Members      []UserID  // the users that a create, join or leave names
	Invited      []UserID  // whom a create or join only invites, or whose invitation a leave ends; none of them is among Members
	Payload      []byte    // opaque to the server (invariant I9); at most MaxPayload bytes
	Refers       Seq       // the message that an edit, recall, reaction or pin is about, see Fold; the last seq of an erase
	Mentions     []Mention // the users that a message names, each once; at most MaxMentions
	MentionAll   bool      // a message to everybody
	AllCount     uint64    // messages in the log up to and including this entry that mention all
	Reaction     string    // of a reaction: at most MaxReaction bytes
	Removed      bool      // of a reaction or pin: it is taken back
	Erased       bool      // the payload was erased
	Retain       Millis    // of a retain: at least DedupWindow; 0: for as long as the server says
	Unknown      []byte    // fields of a later version, as they were encoded
}

// Place returns the entry's position in the display order.
func (e *Entry) Place() Place {
	return Place{Anchor: e.Anchor, Local: e.OrderTime(), Seq: e.Seq}
}

// OrderTime returns L' (section 9 of docs/protocol.md), the time that orders the
// entry among its sender's entries: Order if the writer has set it, else the local
// time, clamped and moved by Ahead.
func (e *Entry) OrderTime() Millis {
	if e.Order != 0 {
		return e.Order
	}
	return moved(e.Local, e.Server, e.Ahead)
}

// Time returns when the entry was written, by the writer's clock at that
// moment, or by about NodesApart later at most where the writer holds the server time, see Times. It is the time
// to show to people. It is smaller than that of an earlier entry if the clock was set back in between.
func (e *Entry) Time() Millis { return e.Server - e.Ahead }
