package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Time is a point in time, on two clocks.
type Time struct {
	Mono time.Duration // since any fixed moment; only ever grows
	Wall pim.Millis    // the device's wall clock, which may jump
}

// Input is what an engine is told.
type Input interface{ input() }

// Inputs of the connection. Attempts are numbered by the engine, see Output.Dials.
type (
	// Start is the first input: connect.
	Start struct{}

	// Dialled says that an attempt's connection stands: TCP, TLS and the WebSocket
	// upgrade are through, or QUIC. The engine takes the first and hangs up the others.
	Dialled struct {
		Attempt   uint64
		Token     string
		Datagrams bool // it is one over UDP
	}

	// NoToken says that the app gave no token for an attempt, and why. If Err is of
	// KindUnauthorized, the engine waits as after a refused token. If RetryAfter is
	// set, the app is not asked again before that has passed.
	NoToken struct {
		Attempt uint64
		Err     *pim.Error
	}

	// Answered is what an LBS says to a Question.
	Answered struct {
		Attempt uint64
		Answer  Answer
	}

	// Unanswered says that a Question has come to nothing, and why. If Err is of KindUnauthorized or
	// KindForbidden, the token and the ticket were refused. If it is of KindOverloaded or has a
	// RetryAfter, the LBS is there and wants to be left alone for that time.
	Unanswered struct {
		Attempt uint64
		Err     error
		NoLBS   bool // the node answers no questions: an earlier version, or without the role; not before Err's RetryAfter
		NoToken bool // it was not asked: the app gave no token, as in NoToken
	}

	// Lost says that an attempt failed, or that its connection broke. It is ignored
	// if the attempt was hung up.
	Lost struct {
		Attempt uint64
		Err     error
		Code    wire.Code // the close code if the server gave one, else 0
	}

	// Frame is a frame from the server on the attempt's connection; nil if its
	// type is not known.
	Frame struct {
		Attempt uint64
		Message wire.Message
	}

	// Arriving says that bytes of a frame have come, the last of them at At on the
	// clock of Time.Mono, and that the frame was not given to the engine yet: it is
	// not complete, because it is large and the line slow, or the shell has not taken
	// it. It also says that bytes of Frames have gone out at At, and that more are to
	// go. Give it before any input that comes at or after Deadline.
	Arriving struct {
		Attempt uint64
		At      time.Duration
	}

	// Pause{true} says that the shell has stopped reading from the connection, because
	// the app does not take its events; Pause{false}, that it reads again.
	Pause struct{ On bool }

	// NetworkChanged says that the device is on another network, or has a network
	// again: the connection is made anew at once, as with Reconnect. Name tells networks apart, as
	// "wifi/home" or "mobile/262-01", because their heartbeats differ. It may be empty,
	// and has at most 128 bytes.
	NetworkChanged struct{ Name string }

	// Reconnect makes the connection anew at once, also in state Stopped. In state
	// Offline it changes nothing. After a refused token it waits up to 2·BackoffMin; if all
	// servers are overloaded, for the first that may be asked.
	Reconnect struct{}

	// Online says whether the app wants a connection. At first it does.
	Online struct{ On bool }

	// Foreground says whether a person looks at the app. While one does, heartbeats
	// come at least once a minute.
	Foreground struct{ On bool }

	// Tick says that time has passed.
	Tick struct{}

	// FromStore is the answer to a Read, to be given before any other input.
	FromStore struct {
		ID      uint64
		Entries []pim.Entry
	}

	// Close says that the app is about to end: acknowledgements that wait to be
	// coalesced are transmitted now.
	Close struct{}
)

// Inputs of the outbox.
type (
	// Send queues a message. The engine sets its Number, Local, Queued and Failed. The
	// engine and the store keep its payload: the caller must not change it.
	Send struct{ Message Outgoing }

	// Do queues a command to the user's own log. The engine sets its Known. The
	// engine must know its user, from a Welcome or from Config.User.
	Do struct {
		ID      pim.ClientMessageID
		Command pim.Command
	}

	// Resend queues a failed message again: the same ID, a new local time.
	Resend struct{ ID pim.ClientMessageID }

	// Discard gives up a message that is queued or failed.
	Discard struct{ ID pim.ClientMessageID }

	// Confirm says, with Config.Confirms, that the app is done with every entry up to
	// Number (EntryEvent), and queues the app's answers in the same transaction. An
	// answer whose ID is in the outbox was queued before, and is skipped.
	Confirm struct {
		Number  uint64
		Answers []Outgoing // as in Send
	}
)

// Inputs about conversations.
type (
	// Follow is for an engine with Config.Watch: hand over the entries of
	// Conversation that come after the seq After, in the order of their seqs.
	Follow struct {
		Conversation pim.ConversationID
		After        pim.Seq
	}

	// Open names the conversation that a person looks at; empty: none. It is pulled
	// before all others.
	Open struct{ Conversation pim.ConversationID }

	// Reading says whether a person reads Conversation. While one does, and the app is in
	// the foreground (Foreground), what is in it is read, and so is what comes, as it comes:
	// the SettingEvent of that is in the Output that has the entry. The mark as unread is
	// taken away at the beginning. The conversation is pulled like one that is open. Several
	// may be read at the same time.
	Reading struct {
		Conversation pim.ConversationID
		On           bool
	}

	// Fill pulls up to Limit entries (0: a page) of the conversation's holes below
	// the seq Before (0: of all holes), the newest first. The answer, in Output.Filled,
	// comes when they are stored, or when no hole lies below Before.
	Fill struct {
		ID           uint64 // chosen by the caller; unlike that of any Fill or Ask that waits
		Conversation pim.ConversationID
		Before       pim.Seq
		Limit        int
	}

	// Ask pulls a page for the app; the answer is in Output.Pulled.
	Ask struct {
		ID           uint64 // chosen by the caller; unlike that of any Fill or Ask that waits
		Conversation pim.ConversationID
		From, To     pim.Seq
		Limit        int
		NewestFirst  bool
		Changes      bool // no entries: what has become of them, and Page.Retention
	}

	// AskReceipts asks the server how far others have read. The answer is in Output.Pulled.
	AskReceipts struct {
		ID           uint64 // as that of an Ask
		Conversation pim.ConversationID
		From, To     pim.Seq
		Readers      bool // of the message at From, who has read it and who has not
		After        pim.UserID
	}

	// AskMembers asks the server who is in a group. The answer is in Output.Pulled.
	AskMembers struct {
		ID           uint64 // as that of an Ask
		Conversation pim.ConversationID
		After        pim.UserID // the last one of the page before
	}

	// AskDevices asks the server for the user's own devices, or signs one of them out. The answer is in
	// Output.Pulled.
	AskDevices struct {
		ID      uint64       // as that of an Ask
		After   pim.DeviceID // the last one of the page before
		SignOut pim.DeviceID // empty: none
	}

	// Look names what is on the screen, in place of what the last Look named; at most 100
	// conversations and users. The server tells what others read and write in the conversations
	// (ReceiptEvent, TypingEvent), from the time on at which it has the Look, and whether the users
	// are connected (PresenceEvent).
	Look struct {
		Conversations []pim.ConversationID
		Users         []pim.UserID
	}

	// Typing says that a person writes in a conversation. The server is told once in a second at
	// most, and only if there is a connection.
	Typing struct{ Conversation pim.ConversationID }

	// Unask says that nobody waits for the answer to an Ask, AskReceipts, AskMembers, AskDevices or Fill any more.
	Unask struct{ ID uint64 }
)

func (Start) input()          {}
func (Dialled) input()        {}
func (Answered) input()       {}
func (Unanswered) input()     {}
func (NoToken) input()        {}
func (Lost) input()           {}
func (Frame) input()          {}
func (Arriving) input()       {}
func (Pause) input()          {}
func (NetworkChanged) input() {}
func (Reconnect) input()      {}
func (Online) input()         {}
func (Foreground) input()     {}
func (Tick) input()           {}
func (FromStore) input()      {}
func (Close) input()          {}
func (Send) input()           {}
func (Do) input()             {}
func (Resend) input()         {}
func (Discard) input()        {}
func (Confirm) input()        {}
func (Follow) input()         {}
func (Open) input()           {}
func (Reading) input()        {}
func (Fill) input()           {}
func (Ask) input()            {}
func (AskReceipts) input()    {}
func (AskMembers) input()     {}
func (AskDevices) input()     {}
func (Look) input()           {}
func (Typing) input()         {}
func (Unask) input()          {}

// Output is what the caller has to do, in the order of the fields; see the
// package's documentation.
type Output struct {
	Store   Batch
	Frames  []wire.Message // for the connection in use: that of the last Dialled attempt that was not hung up
	Hangups []uint64       // attempts: close their connections, or give up making them, or asking
	Dials   []Dial
	Events  []Event
	Filled  []Filled
	Pulled  []Pulled
	Reads   []Read

	Questions []Question
}

// Question asks an LBS which gateway to dial, to be answered with Answered or Unanswered. Up to
// three may be under way at once.
type Question struct {
	Attempt uint64 // as those of Dials
	LBS     string // one of Config.LBS
	Ticket  string // to be shown besides the token, see Answer; empty: none
}

// Answer is what an LBS says: a place on a gateway, or to wait.
type Answer struct {
	Candidates []Candidate   // the first is dialled at once; empty: there is no place now
	Keep       time.Duration // for how long the place is kept, from now on; 0: 10 s
	Window     time.Duration // no place: the next question is asked at a random moment within it, 1 s to 1 h
	Lease      string        // a place: says so to the gateway, in Hello
	Ticket     string        // no place: stands in for the token of the next question
	Alone      time.Duration // within what time a client dials that no LBS answers; at most 1 h
}

// Candidate is a gateway that an LBS names.
type Candidate struct {
	Server string // its URL
	Weight uint32 // relative to those of the other candidates, besides the first
}

// Read asks for entries of the store, once everything else in the Output has been done.
// Without Former these are the last Limit entries with seqs up to UpTo. With Former they
// are the entries that are kept aside (Rewind), ordered by seq: the first Limit after the
// first Skip. The answer, ascending by seq, is FromStore.
type Read struct {
	ID           uint64
	Conversation pim.ConversationID
	UpTo         pim.Seq
	Former       bool
	Skip, Limit  int
}

// Dial asks for an attempt to connect, to be answered with Dialled, NoToken or
// Lost. Up to three may be under way at once.
type Dial struct {
	Attempt uint64
	Server  string // URL: one of Config.Servers, or an alternative that a server named
}

// Pulled is the answer to an Ask, AskReceipts, AskMembers or AskDevices.
type Pulled struct {
	ID       uint64
	Page     Page
	Receipts Receipts
	Members  Members
	Devices  Devices
	Err      *pim.Error
}

// Filled is the answer to a Fill.
type Filled struct {
	ID   uint64
	More bool // holes are left below Fill.Before
	Err  *pim.Error
}
