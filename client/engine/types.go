package engine

import (
	"time"

	"github.com/pim-im/pim"
)

// State is what the connection is doing.
type State uint8

const (
	Connecting State = 1 // dialling, or waiting for Welcome
	Connected  State = 2 // Welcome has come
	Waiting    State = 3 // not connected; the next attempt is set for later
	Stopped    State = 4 // no further attempt will be made
)

// String returns the state's stable name, as in logs.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Waiting:
		return "waiting"
	case Stopped:
		return "stopped"
	}
	return "unknown"
}

// Sent is the server's answer to a message: it is durable, at Seq.
type Sent struct {
	Conversation pim.ConversationID // of a new group: the ID that it was given
	Seq          pim.Seq
	Anchor       pim.Seq
	Server       pim.Millis
	Count        uint64
	Duplicate    bool // an earlier transmission was appended; this is its answer
}

// Event is what is handed to the app: an EntryEvent, SentEvent, FailedEvent or
// StateEvent.
type Event interface{ event() }

// EntryEvent hands over one entry. The entries of a conversation come in the
// order of their seqs, each once for a device's storage, own messages included;
// Entry.Place is where to show it. The entry is shared with the store: do not
// change its payload or members.
type EntryEvent struct{ Entry pim.Entry }

// SentEvent says that a message has left the outbox: the server has it.
type SentEvent struct {
	ID   pim.ClientMessageID
	Sent Sent
}

// FailedEvent says that the server rejected something for good: the message ID,
// which has left the outbox, or, if ID is zero, following Conversation.
type FailedEvent struct {
	ID           pim.ClientMessageID
	Conversation pim.ConversationID
	Err          *pim.Error
}

// StateEvent says that the connection's state has changed.
type StateEvent struct {
	State   State
	Err     error         // why the connection was lost, or will not be tried again
	RetryIn time.Duration // in state Waiting: until the next attempt
}

func (EntryEvent) event()  {}
func (SentEvent) event()   {}
func (FailedEvent) event() {}
func (StateEvent) event()  {}

// Page is one page of a conversation as the server has it.
type Page struct {
	Entries  []pim.Entry // ascending by seq
	From, To pim.Seq     // what the page settles; From > To: nothing
	Newest   pim.Seq     // newest seq that the user may read
}

// Conversation is what a device knows of one conversation.
type Conversation struct {
	ID     pim.ConversationID
	Known  pim.Seq // everything up to here is stored
	Newest pim.Seq // newest seq that the device has heard of; at least Known
	Count  uint64  // counting messages in the log up to Newest
	// Last is the newest entry, zero if it is not known. While Known is below
	// Newest it comes from the server's summary, whose payload is cut at 256
	// bytes; LastCut says that it was.
	Last    pim.Entry
	LastCut bool
	Left    bool // the user is no longer a member
}

// Outgoing is a message in the outbox.
type Outgoing struct {
	ID           pim.ClientMessageID
	Number       uint64             // order of the outbox; grows from message to message
	Conversation pim.ConversationID // empty for EntryCreate
	Kind         pim.EntryKind
	Members      []pim.UserID
	Payload      []byte
	Local        pim.Millis // set at the first transmission, then kept; 0 before it
}

// Meta is what a device's storage knows besides conversations and messages.
type Meta struct {
	User      pim.UserID // empty until the first Welcome
	Device    pim.DeviceID
	AckSerial uint64     // serial of the last PIMPushAck
	FullSync  bool       // a full sync is needed, or was begun and is not complete
	LastLocal pim.Millis // local time of the last first transmission
	Number    uint64     // Outgoing.Number of the last message that was queued
}

// Snapshot is what an engine starts from: the whole of a store except the
// entries. The zero Snapshot is that of an empty store.
type Snapshot struct {
	Meta          Meta
	Conversations []Conversation // in any order; Last is not needed
	Outbox        []Outgoing     // in any order
}

// Batch is a set of changes to a store, to be made in one transaction. The store
// may keep what the slices refer to, but not the slices themselves.
type Batch struct {
	Meta          *Meta // nil: unchanged
	Conversations []Conversation
	// Entries are to be inserted; one that the store has already (same
	// conversation, same seq) is the same.
	Entries []pim.Entry
	Outbox  []Outgoing            // to be inserted, or replaced where the ID is known
	Remove  []pim.ClientMessageID // to be deleted from the outbox
}

// Empty reports whether b changes nothing.
func (b *Batch) Empty() bool {
	return b.Meta == nil && len(b.Conversations)+len(b.Entries)+len(b.Outbox)+len(b.Remove) == 0
}
