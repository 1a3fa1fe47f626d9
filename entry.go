package pim

// EntryKind says what an entry does, as on the wire. Clients show or skip kinds they
// do not know, and carry them, so kinds can be added.
type EntryKind uint32

const (
	EntryMessage EntryKind = 1 // a message; the only kind that counts as unread
	EntryCreate  EntryKind = 2 // the group came into being; Members are its first members
	EntryJoin    EntryKind = 3 // Members joined and read from this entry on
	EntryLeave   EntryKind = 4 // Members left; this entry is the last they read
	EntryCommand EntryKind = 5 // of a user's own log: the payload is an encoded Command
)

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
	}
	return "unknown"
}

// Entry is one position of a conversation's log. It never changes.
type Entry struct {
	Conversation ConversationID
	Seq          Seq
	Anchor       Seq    // place in the display order, see Place
	Count        uint64 // counting messages in the log up to and including this entry
	Kind         EntryKind
	Sender       UserID
	Device       DeviceID // the sender's device
	ClientID     ClientMessageID
	Local        Millis   // the sender's calibrated clock at the first transmission
	Server       Millis   // the conversation's time, that of the writer's clock; never decreases with Seq
	Ahead        Millis   // how far Server is ahead of the writer's clock: 0, unless that clock was set back, see Times
	Order        Millis   // the time that orders the entry, where it does not follow from Local: see OrderTime; else 0
	Members      []UserID // whom a create, join or leave is about
	Payload      []byte   // opaque to the server (invariant I9); at most MaxPayload bytes
	Unknown      []byte   // fields of a later version, as they were encoded
}

// Place returns the entry's position in the display order.
func (e *Entry) Place() Place {
	return Place{Anchor: e.Anchor, Local: e.OrderTime(), Seq: e.Seq}
}

// OrderTime returns the time that orders the entry among its sender's, L' in
// section 9 of docs/protocol.md: Order if the writer has set it, else the
// local time, moved and clamped.
func (e *Entry) OrderTime() Millis {
	if e.Order != 0 {
		return e.Order
	}
	return moved(e.Local, e.Server, e.Ahead)
}

// Time returns when the entry was written, by the writer's clock at that
// moment. It is the time to show to people. It may be smaller than that of an
// earlier entry: then the clock was set back in between.
func (e *Entry) Time() Millis { return e.Server - e.Ahead }
