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
	// upgrade are through. The engine takes the first and hangs up the others.
	Dialled struct {
		Attempt uint64
		Token   string
	}

	// NoToken says that the app gave no token for an attempt, and why. Err is of
	// KindUnauthorized if that is what a server would have said; with RetryAfter the
	// app is not asked before.
	NoToken struct {
		Attempt uint64
		Err     *pim.Error
	}

	// Lost says that an attempt failed, or that its connection broke. Of an
	// attempt that was hung up it means nothing.
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
	// clock of Time.Mono, and that the frame is not complete: it is a large one, and
	// the line slow; or that it was not taken yet. Likewise that bytes of Frames have
	// gone out at At, and that there are more to go. To be given before any input
	// that comes at or after Deadline.
	Arriving struct {
		Attempt uint64
		At      time.Duration
	}

	// Pause says that the shell has stopped reading, since the app does not take
	// its events, or that it goes on.
	Pause struct{ On bool }

	// NetworkChanged says that the device is on another network, or again on one:
	// the connection is made anew at once. Name tells networks apart whose
	// heartbeats differ, as "wifi/home" or "mobile/262-01"; it may be empty, and has
	// at most 128 bytes.
	NetworkChanged struct{ Name string }

	// Reconnect makes the connection anew at once, after a stop too. Without a
	// connection by Online{false} it changes nothing.
	Reconnect struct{}

	// Online says that the app wants a connection, as at first, or none.
	Online struct{ On bool }

	// Foreground says that the app is being looked at: heartbeats are shorter.
	Foreground struct{ On bool }

	// Tick says that time has passed.
	Tick struct{}

	// FromStore is the answer to a Read, to be given before any other input.
	FromStore struct {
		ID      uint64
		Entries []pim.Entry
	}

	// Close says that the app is about to leave: what waits to be coalesced is
	// transmitted.
	Close struct{}
)

// Inputs of the outbox.
type (
	// Send queues a message. Its Number, Local, Queued and Failed are the engine's
	// to set; the engine and the store keep its payload.
	Send struct{ Message Outgoing }

	// Do queues a command to the user's own log. Its Known is the engine's to set.
	// The engine must know its user: from a Welcome, or Config.User.
	Do struct {
		ID      pim.ClientMessageID
		Command pim.Command
	}

	// Resend queues a failed message again: the same ID, a new local time.
	Resend struct{ ID pim.ClientMessageID }

	// Discard gives up a message that is queued or failed.
	Discard struct{ ID pim.ClientMessageID }

	// Confirm says, with Config.Confirms, that the app is done with every entry up to
	// Number (EntryEvent), and queues its answers in the same transaction. An answer
	// whose ID is in the outbox is there already.
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

	// Open says which conversation is being looked at; empty: none. What it lacks
	// is pulled first.
	Open struct{ Conversation pim.ConversationID }

	// Fill pulls up to Limit entries (0: a page) of the conversation's holes below
	// Before (0: its end), the newest first. The answer, in Output.Filled, is that
	// there is nothing more to fill there, or that it is stored.
	Fill struct {
		ID           uint64 // chosen by the caller, in common with Ask
		Conversation pim.ConversationID
		Before       pim.Seq
		Limit        int
	}

	// Ask pulls a page for the app; the answer is in Output.Pulled.
	Ask struct {
		ID           uint64 // chosen by the caller; one at a time
		Conversation pim.ConversationID
		From, To     pim.Seq
		Limit        int
		NewestFirst  bool
	}

	// Unask says that nobody waits for the answer to an Ask or Fill any more.
	Unask struct{ ID uint64 }
)

func (Start) input()          {}
func (Dialled) input()        {}
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
func (Fill) input()           {}
func (Ask) input()            {}
func (Unask) input()          {}

// Output is what the caller has to do, in the order of the fields; see the
// package's documentation.
type Output struct {
	Store   Batch
	Frames  []wire.Message // on the connection in use: of the last attempt that was Dialled and not hung up
	Hangups []uint64       // attempts: close the connection, or give up making it
	Dials   []Dial
	Events  []Event
	Filled  []Filled
	Pulled  []Pulled
	Reads   []Read
}

// Read asks for entries of the store, once all of the Output has been done: the last
// Limit with seqs up to UpTo, ascending; or, of what is kept aside (Batch.Rewinds), the
// first Limit after Skip, by their seqs. The answer is FromStore.
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

// Pulled is the answer to an Ask.
type Pulled struct {
	ID   uint64
	Page Page
	Err  *pim.Error
}

// Filled is the answer to a Fill.
type Filled struct {
	ID   uint64
	More bool // there are holes below what was asked for
	Err  *pim.Error
}
