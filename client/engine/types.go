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
	Stopped    State = 4 // no further attempt will be made until Reconnect
	Offline    State = 5 // the app wants no connection (Online{false}), until Online{true}
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
	case Offline:
		return "offline"
	}
	return "unknown"
}

// SendState is where a message stands on its way to the server.
//
//	queued ──► sending ──► sent
//	             │  ▲
//	             ▼  │
//	           waiting ──► failed ──Resend──► queued
//
// A queued or failed message can be discarded; a queued command can be
// superseded by a later one.
type SendState uint8

const (
	Queued     SendState = 1 // stored, and not transmitted yet
	InFlight   SendState = 2 // transmitted; the answer is awaited
	Delayed    SendState = 3 // the connection broke, or the server is busy: it will be sent again by itself
	Delivered  SendState = 4 // the server has it durably
	Failed     SendState = 5 // it will not be sent again by itself: Resend or Discard
	Superseded SendState = 6 // a command that became pointless, mostly by a later one; it is gone
	Discarded  SendState = 7 // given up by the app, or by the engine (SendEvent); it is gone
)

// String returns the state's stable name, as in logs and JSON.
func (s SendState) String() string {
	switch s {
	case Queued:
		return "queued"
	case InFlight:
		return "sending"
	case Delayed:
		return "waiting"
	case Delivered:
		return "sent"
	case Failed:
		return "failed"
	case Superseded:
		return "superseded"
	case Discarded:
		return "discarded"
	}
	return "unknown"
}

// Sent is the server's answer to a message: the message is durable, at Seq.
type Sent struct {
	Conversation pim.ConversationID // for EntryCreate: the ID that the new group was given
	Seq          pim.Seq
	Anchor       pim.Seq
	Server       pim.Millis
	Ahead        pim.Millis
	Order        pim.Millis
	Count        uint64
	AllCount     uint64
	Duplicate    bool // an earlier transmission was appended; this is its answer
	// Strangers are those whom the message names and who are not members: the mention reaches none
	// of them.
	Strangers []pim.UserID
}

// Event is what is handed to the app: an EntryEvent, ChangedEvent, ErasedEvent, SendEvent,
// SettingEvent, ListEvent, ReadEvent, RefusedEvent, RewoundEvent, TrimmedEvent or StateEvent.
type Event interface{ event() }

// EntryEvent hands over one entry, the user's own messages included, and each at
// most once for a device's storage. The entries of a conversation come in the order
// of their seqs, except those that fill a hole: they are Late, lie below entries that
// were handed over before, and come in any order. Entry.Place says where to show the
// entry. The store shares the entry: do not change its payload or members.
type EntryEvent struct {
	Entry pim.Entry
	Late  bool
	// Number counts the entries of the store in the order in which they were
	// stored, from 1 on. It grows from event to event, and is never given twice.
	Number uint64
}

// ChangedEvent says that the stored fold of the message at Seq may have changed: the message
// was edited, recalled or pinned, somebody has reacted to it, or one of these was taken back.
// The message need not be stored.
type ChangedEvent struct {
	Conversation pim.ConversationID
	Seq          pim.Seq
}

// ErasedEvent says that what a user wrote in the conversation is erased up to a seq, see
// pim.Erasure. The store has no payload of it any more.
type ErasedEvent struct {
	Conversation pim.ConversationID
	pim.Erasure
}

// SendEvent says that a message of the outbox has reached State. With Delivered,
// Superseded, Discarded, and Failed of a command or of what refers to a message, the
// message has left the outbox;
// no other SendEvent follows unless the server loses the message (RewoundEvent). The
// engine discards by itself the oldest of more than 1,000 failed messages, and a join
// or leave that the server refuses when it is sent again after a RewoundEvent.
type SendEvent struct {
	ID           pim.ClientMessageID
	Conversation pim.ConversationID // empty for EntryCreate, until it is Delivered
	State        SendState
	Attempt      int                 // InFlight: transmissions so far, of this process
	RetryIn      time.Duration       // Delayed: until it is sent again; 0: when there is a connection
	Sent         Sent                // Delivered: the server's answer
	Err          *pim.Error          // Delayed and Failed: why
	By           pim.ClientMessageID // Superseded: the command in its place; zero: none
}

// ReceiptEvent says how far others have read a conversation that is looked at, see Look: of a group
// the messages among its newest 50 entries.
type ReceiptEvent struct {
	Conversation pim.ConversationID
	Receipts     Receipts
}

// TypingEvent says that others write in a conversation that is looked at. It holds for some seconds,
// or until their message comes.
type TypingEvent struct {
	Conversation pim.ConversationID
	Users        []pim.UserID
}

// PresenceEvent says whether a user who is looked at is connected. With neither Online nor Seen
// nothing is known, or nothing may be.
type PresenceEvent struct {
	User   pim.UserID
	Online bool
	Seen   pim.Millis // when the user was connected last, up to 5 minutes too early; 0 while Online
}

// LookEvent says that the server refuses some of what the last Look named. It may come later, too: of a
// server on which too much is looked at, the last subjects of those who look at the most give way
// (KindOverloaded).
type LookEvent struct {
	Err *pim.Error
}

// SettingEvent hands over the present setting of an entity of the user's own log.
// Setting includes the commands of this device that are still in the outbox.
type SettingEvent struct {
	Entity  string // as of pim.Command.Entity
	Setting pim.Setting
	Pending bool // Setting includes a command that is still in the outbox
}

// ListEvent names the conversations about which a page of the sync list says something
// new. The store has the list's summaries already; the entries come later.
type ListEvent struct{ Conversations []pim.ConversationID }

// ReadEvent says that the user has read Conversation up to Seq: another device of the user has
// said so, or has sent a message, or the user has joined the group anew. What this device
// notifies of the messages up to Seq can be taken away. It comes once for each Seq, when this
// device hears of it, and never for what this device itself has read or sent. None comes for a
// conversation that is new to this device.
type ReadEvent struct {
	Conversation pim.ConversationID
	Seq          pim.Seq
}

// RefusedEvent says that the server does not let this user follow a watched
// conversation.
type RefusedEvent struct {
	Conversation pim.ConversationID
	Err          *pim.Error
}

// RewoundEvent says that the server's store went back: it was restored from a backup,
// begun anew, or is another server's. The entries of Conversation above After are not in
// its log any more and have left the device's store, even if they were handed over. The
// entries that take their seqs follow as EntryEvents. What this user sent of the lost
// entries comes back: as SendEvents with the old IDs when it is sent again, and as
// entries with new seqs.
type RewoundEvent struct {
	Conversation pim.ConversationID
	After        pim.Seq
}

// TrimmedEvent says that retention has removed the entries of Conversation with seqs below
// Front, for good and from everybody. They have left the device's store, even if they were not
// handed over or confirmed yet. What the user has pulled by Ask is the app's to forget.
type TrimmedEvent struct {
	Conversation pim.ConversationID
	Front        pim.Seq
}

// StateEvent says that the connection's state has changed. Waiting with an Err of
// pim.KindUnauthorized says that the server has refused the token, or that the token
// has run out: the app is asked for another after RetryIn. pim.KindRevoked is the same, of a token that was
// good and was revoked: the user was signed out here, or is blocked. Waiting with an Err of
// pim.KindOverloaded says that a server has turned the client away because it has too much
// to do: it is left alone for as long as it said, and RetryIn is until the next attempt, at
// it or at another. Stopped says that no attempt is made any more, until Reconnect.
type StateEvent struct {
	State   State
	Err     error         // why the connection was lost, or will not be tried again
	RetryIn time.Duration // in state Waiting: until the next attempt
}

func (EntryEvent) event()    {}
func (ChangedEvent) event()  {}
func (ErasedEvent) event()   {}
func (SendEvent) event()     {}
func (SettingEvent) event()  {}
func (ReceiptEvent) event()  {}
func (TypingEvent) event()   {}
func (PresenceEvent) event() {}
func (LookEvent) event()     {}
func (ListEvent) event()     {}
func (ReadEvent) event()     {}
func (RefusedEvent) event()  {}
func (RewoundEvent) event()  {}
func (TrimmedEvent) event()  {}
func (StateEvent) event()    {}

// Page is one page of a conversation as the server has it.
type Page struct {
	Entries  []pim.Entry // ascending by seq
	Folds    []pim.Fold  // of those of them to which other entries refer, as they are now
	From, To pim.Seq     // what the page settles; From > To: nothing
	Newest   pim.Seq     // newest seq that the user may read

	// Of an Ask for Changes: for how long the conversation says that its entries are kept, and for how
	// long the server keeps any; 0: for ever.
	Retention    pim.Retention
	ServerRetain pim.Millis
}

// Conversation is what a device knows of one conversation.
type Conversation struct {
	ID     pim.ConversationID
	Known  pim.Seq // everything up to here is stored or settled, except the holes
	Newest pim.Seq // newest seq that the device has heard of with its count; at least Known
	Count  uint64  // counting messages in the log up to Newest
	// Own is the seq of the newest message that the user sent, from any device, or of
	// the user's joining if that is newer, as far as this device has heard; 0: none.
	// OwnCount is the counting messages up to Own: none of them is unread.
	Own      pim.Seq
	OwnCount uint64
	// What mentions the user up to Newest, as far as this device has heard, and the messages
	// up to Own that mention all. See pim.Mentioned.Since.
	pim.Mentioned
	OwnAll uint64
	// Last is the newest entry, zero if it is not known. While Known is below
	// Newest, Last comes from the server's Summary, which cuts longer payloads to
	// 64 bytes; LastCut says that it did.
	Last    pim.Entry
	LastCut bool
	Left    bool // the user is no longer a member, or is invited
	// Holes are the stretches below Known that are not stored, ascending. They
	// come from gaps that are filled from the newest end.
	Holes []Hole
	// Folded is a seq that nothing in the stored folds lies above; 0: there are none.
	Folded pim.Seq
	// Stale is the last seq of the messages whose folds may lack something, since the
	// conversation was taken back (Rewind), or a gap above them is filled only when the app asks
	// for it; 0: none does. They are pulled again.
	Stale pim.Seq
	// Front is the first seq that retention has left, as far as this device has heard; 0: nothing
	// was removed.
	Front pim.Seq
	// GoneAt is when the newest of the entries that a Trim took was written, as far as they were
	// stored; 0: none was. Only the store sets it: what is in a Batch says nothing.
	GoneAt pim.Millis
	// Lost is a seq: of what is kept aside, the server may have lost what stood there or behind
	// it. What stood before it came to its place, and is not lost if retention removes it. 0: nothing
	// may be lost.
	Lost pim.Seq
}

// Hole is a stretch of a conversation that is not stored, both ends included.
type Hole struct {
	From, To pim.Seq
	Lazy     bool // filled only when the app asks for it (Fill)
}

// Setting is one entity of the user's own log.
type Setting struct {
	Entity string // as of pim.Command.Entity
	pim.Setting
}

// Network is what was learned about the heartbeats of one network.
type Network struct {
	Name   string // as of NetworkChanged
	Every  time.Duration
	Stable bool       // Every was found by failing above it
	Used   pim.Millis // when the network was last in use, in server time
}

// Outgoing is a message in the outbox.
type Outgoing struct {
	ID           pim.ClientMessageID
	Number       uint64             // order of the outbox; grows from message to message
	Conversation pim.ConversationID // empty for EntryCreate
	Kind         pim.EntryKind
	Members      []pim.UserID
	Mentions     []pim.UserID // of a message: whom it names, each once
	MentionAll   bool         // of a message
	Payload      []byte
	Refers       pim.Seq    // of an edit, recall, reaction, pin or erase: as in pim.Entry
	Reaction     string     // of a reaction
	Removed      bool       // of a reaction or pin: it is taken back
	Retain       pim.Millis // of a retain, as in pim.Entry
	Local        pim.Millis // set at the first transmission, then kept; 0 before it
	First        pim.Millis // after a Resend: the local time of its first transmission ever; else 0
	Queued       pim.Millis // when it was queued, in server time as far as that was known
	Again        bool       // the server acknowledged it once and has lost it since: see Rewind
	Failed       *pim.Error // why it is not sent again by itself; nil if it is. Op, Kind and Text are kept
}

// Stored is an entry as a store keeps it.
type Stored struct {
	pim.Entry
	Number uint64 // as of EntryEvent; 0: an earlier version, which gave no numbers, stored it
	Late   bool   // as of EntryEvent
}

// Meta is what a device's storage knows besides conversations and messages.
type Meta struct {
	User      pim.UserID // empty until the first Welcome
	Device    pim.DeviceID
	AckSerial uint64     // serial of the last PIMPushAck
	FullSync  bool       // a full sync is needed, or was begun and is not complete
	LastLocal pim.Millis // the last local time that was given to a message
	Number    uint64     // Outgoing.Number of the last message that was queued
	Stored    uint64     // Stored.Number of the last entry that was stored
	Confirms  bool       // the app confirms entries (Config.Confirms), in this process or an earlier one
	Confirmed uint64     // Stored.Number of the last entry that the app is done with
	Key       [16]byte   // a secret of this store, for the IDs of answers; zero: the app does not confirm
	Store     string     // identity of the server's store, as a Welcome named it last
	Heard     uint64     // AckSerial of the last Welcome: the highest serial that the server had
	Doubt     bool       // the server's store may have gone back: conversations are being compared
}

// Snapshot is what an engine starts from: the whole of a store except the
// entries. The zero Snapshot is that of an empty store.
type Snapshot struct {
	Meta          Meta
	Conversations []Conversation       // in any order; Last is not needed
	Outbox        []Outgoing           // in any order
	Settings      []Setting            // in any order
	Networks      []Network            // in any order, at most 16
	Erasures      []Erasure            // in any order
	Former        []pim.ConversationID // conversations that have entries kept aside, see Rewind; in any order
}

// Batch is a set of changes to a store, to be made in one transaction. The store
// may keep what the slices refer to, but not the slices themselves.
type Batch struct {
	// Rewinds are to be made before everything else.
	Rewinds       []Rewind
	Meta          *Meta // nil: unchanged
	Conversations []Conversation
	// Entries are to be inserted. If the store has an entry of the same conversation
	// and seq already, it is the same entry, and it keeps its number.
	Entries []Stored
	Outbox  []Outgoing            // to be inserted, or replaced where the ID is known
	Remove  []pim.ClientMessageID // to be deleted from the outbox
	// Settings are to be inserted, or replaced where the entity is known.
	Settings []Setting
	// Networks, if not nil, replace those that are stored.
	Networks []Network
	// Folds are to be merged into the stored folds of the same messages (pim.Fold.Merge),
	// after Entries are inserted. See Fold.
	Folds []Fold
	// Erasures are to be remembered, each in place of that of the same conversation and user.
	// After Entries and Folds, what they erase of them and of what is stored is to be erased:
	// the payloads of entries (pim.Erasure.Erases), which are stored as Erased then, and edits of folds
	// (pim.Erasure.Unfold). What is stored later is erased already where it must be.
	Erasures []Erasure
	// Keep are entries to be kept aside as by a Rewind.
	Keep []pim.Entry
	// Forget names entries that are kept aside, and are to be deleted.
	Forget []Former
	// Trims are to be made after everything else.
	Trims []Trim
}

// Fold is what a store keeps of a message that other entries refer to. When the store has
// made a Batch's changes, no entry of a recalled message has a payload, neither the message
// itself nor its edits, in whatever order they were stored: they are stored
// as Erased.
type Fold struct {
	Conversation pim.ConversationID
	pim.Fold
}

// Trim takes away what retention has removed: the entries with seqs below Front, the folds of
// messages below it, and what is kept aside with a seq below Former.
type Trim struct {
	Conversation pim.ConversationID
	Front        pim.Seq
	Former       pim.Seq
}

// Erasure is how far the messages of a user are erased in a conversation. UpTo 0: not at all.
type Erasure struct {
	Conversation pim.ConversationID
	pim.Erasure
}

// Rewind takes a conversation back: its entries above After are to be deleted. The
// deleted entries that Sender sent are to be kept aside, except those that were erased; each replaces an entry with the
// same client message ID that is kept aside already. Then Aside says what becomes of everything that is kept aside.
// Folds that have anything above After (pim.Fold.Newest) are to be deleted. If Conversation is the
// user's own log, all settings are to be deleted too.
type Rewind struct {
	Conversation pim.ConversationID
	After        pim.Seq
	Sender       pim.UserID
}

// Aside changes e, which is kept aside, as r asks for, and reports whether it stays. What refers to
// a message above After goes: the message has another seq when it comes back. An erase is of what
// is left up to After.
func (r *Rewind) Aside(e *pim.Entry) (stays bool) {
	if e.Kind == pim.EntryErase {
		e.Refers = min(e.Refers, r.After)
		return e.Refers > 0
	}
	return e.Refers <= r.After
}

// Former names an entry that is kept aside.
type Former struct {
	Conversation pim.ConversationID
	ID           pim.ClientMessageID // zero: all of the conversation
}

// Empty reports whether b changes nothing.
func (b *Batch) Empty() bool {
	return b.Meta == nil && len(b.Conversations)+len(b.Entries)+len(b.Outbox)+len(b.Remove)+len(b.Settings)+len(b.Rewinds)+len(b.Folds)+len(b.Erasures)+len(b.Keep)+len(b.Forget)+len(b.Trims) == 0 && b.Networks == nil
}
