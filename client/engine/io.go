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

// Input is what an engine is told: Start, Dialled, Lost, Frame, Send, Follow,
// Ask, Unask, Pause, Tick or Close.
type Input interface{ input() }

type (
	// Start is the first input: connect.
	Start struct{}

	// Dialled says that a connection stands, which Output.Dial asked for.
	Dialled struct{ Token string }

	// Lost says that the connection broke, or could not be made.
	Lost struct {
		Err  error
		Code wire.Code // the close code if the server gave one, else 0
	}

	// Frame is a frame from the server; nil if its type is not known.
	Frame struct{ Message wire.Message }

	// Send queues a message. Its Number and Local are the engine's to set; the
	// engine and the store keep its payload.
	Send struct{ Message Outgoing }

	// Follow is for an engine with Config.Watch: hand over the entries of
	// Conversation that come after the seq After.
	Follow struct {
		Conversation pim.ConversationID
		After        pim.Seq
	}

	// Ask pulls a page for the app; the answer is in Output.Pulled.
	Ask struct {
		ID           uint64 // chosen by the caller; one at a time
		Conversation pim.ConversationID
		From, To     pim.Seq
		Limit        int
		NewestFirst  bool
	}

	// Unask says that nobody waits for the answer to an Ask any more.
	Unask struct{ ID uint64 }

	// Pause says that the shell has stopped reading, since the app does not take
	// its events, or that it goes on.
	Pause struct{ On bool }

	// Tick says that time has passed.
	Tick struct{}

	// Close says that the app is about to leave: what waits to be coalesced is
	// transmitted.
	Close struct{}
)

func (Start) input()   {}
func (Dialled) input() {}
func (Lost) input()    {}
func (Frame) input()   {}
func (Send) input()    {}
func (Follow) input()  {}
func (Ask) input()     {}
func (Unask) input()   {}
func (Pause) input()   {}
func (Tick) input()    {}
func (Close) input()   {}

// Output is what the caller has to do, in the order of the fields; see the
// package's documentation.
type Output struct {
	Store  Batch
	Frames []wire.Message
	Hangup bool
	Dial   bool
	Events []Event
	Pulled []Pulled
}

// Pulled is the answer to an Ask.
type Pulled struct {
	ID   uint64
	Page Page
	Err  *pim.Error
}
