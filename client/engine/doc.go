// Package engine is the client's state machine. It is pure: no I/O, no
// goroutine, no clock and no randomness of its own. Package client is the shell
// that gives it a connection, a store and the time.
//
// # Duties of the caller
//
// Step takes one input at a time. Take then returns an Output: what the caller has
// to do. Several steps may precede one Take; what they store is one transaction.
// For each Output, in this order:
//
//  1. Apply Store in one transaction, and wait until it is durable before the
//     next duty. If it fails, stop: the engine is ahead of the store.
//  2. Transmit Frames in order on the connection in use. If a frame cannot be
//     transmitted, report the connection as Lost; the frame needs no attention.
//  3. Close the connections of the attempts in Hangups, and report nothing more
//     of them.
//  4. For each of Dials get a token, dial, and answer with Dialled, NoToken or Lost. For each of
//     Questions get a token, ask, and answer with Answered or Unanswered.
//  5. Hand over Events, Filled and Pulled in order. While the app does not take
//     them, stop reading from the connection and say so with Pause.
//  6. Answer each of Reads with FromStore, before any other input.
//
// In between, call Step(Tick) when Deadline has come. If a frame is half way in
// or out at that time, call Step(Arriving) first.
//
// # Invariants
//
// The process may die between any two of these actions. Then:
//
//   - A message is in the store before it is transmitted, together with the local
//     time that it is transmitted with. It leaves the store when the server has it,
//     or by the app's decision; a failed message stays, with the reason. After a
//     restart it goes on with the same ID, so it has one effect.
//   - An entry is stored in the transaction that moves its conversation's
//     position over it, and is handed over after that. So it is stored once, and
//     the engine hands it over at most once. If the process dies in between, the app
//     reads the entry from the store. Entries are numbered in the order in which they
//     are stored; the number up to which the app has confirmed them is stored too.
//   - A position moves only over settled seqs: to the entry that follows the
//     position, or over seqs that a pull says are not for this user.
//   - The serial of an acknowledgement is stored before it is sent. If the server
//     knows a higher serial than the store, the store was restored from a backup.
//     Then a full sync is due, which is stored until that sync is complete.
//   - The doubt whether the server's store went back is stored until every
//     conversation was compared. The entries that a conversation loses, its
//     position, and the entries kept aside to be sent again change in one
//     transaction; only the RewoundEvent is lost with the process.
//
// # Outline
//
// Engine is the conductor: it hands each input to the parts that it concerns, and joins
// them, as "the connection is gone, so what is in flight waits". A part is a type with its
// own state, file and test. It knows no Engine: it is given the time and what else it
// needs, and returns what is to be done, or leaves it in effects, for the next Take. The
// outbox and the pulls look at the limits of the last Welcome, the outbox at the clock too.
// Two parts call back: the outbox calls Engine when a message has left it, and fetches calls
// the function that waits for the answer to a Read.
//
// The parts of the connection:
//
//	race           a round of attempts to connect: when, which one wins
//	route          which server is tried next
//	busy           servers that have said when to come back, and are left alone until then
//	finder         what an LBS has said, and when it is asked again (find.go)
//	backoff        how long to wait between rounds, and after a refused token
//	strays         Hellos that nobody awaits, and that may replace a connection
//	heart          how far apart heartbeats are, found out for each network
//	watchdog       how a dead connection is noticed
//	clock          the server's clock, from samples with the least delays; jumps
//
// Of what is sent:
//
//	outbox         messages on their way: lanes (outbox.go), transmission, resends and
//	               refusals (transmit.go), which are too old (age.go)
//	settings       what the user's own log comes to
//	wishes         what the commands come to that the server has lost
//	acks           acknowledgements, coalesced
//
// Of what is received:
//
//	conversations  the position in each (conversation.go), and how many are not complete
//	holes          what is missing below a position
//	pulls          the engine's own pulls: one a conversation, a few at a time
//	asks, fills    the app's pulls, and its requests to fill holes
//	requests       the pulls and asks that the server owes an answer to
//	syncList       how far the list of conversations that are behind is read
//	doubts, check  conversations that the server may have lost entries of, and the
//	               comparison of one: its last common entry
//	fetches        reads of the device's own store
//	former         conversations whose entries are kept aside, to be sent again
//
// What is left to Engine:
//
//	engine.go      Step, Deadline, Take
//	link.go        the connection: its phases, GoAway
//	hello.go       Hello and Welcome
//	token.go       tokens that the server refuses, or that the app does not give
//	alive.go       heartbeats and pings
//	sent.go        what an answer means for the conversation
//	commands.go    commands are given, and obeyed
//	reads.go       how far the user has read, on whatever device
//	reading.go     what a person reads is read as it comes
//	confirm.go     entries are numbered, and confirmed by the app
//	conversation.go, catchup.go, gaps.go
//	               entries that are pushed and pulled, and long gaps, which are jumped
//	sync.go        the lines of the sync list
//	goback.go, former.go
//	               a server whose store went back: conversations are taken back, and the
//	               user's own entries that it has lost are sent again
//	look.go        what a shell may look at between two steps
//	io.go, types.go, effects.go
//	               inputs and outputs, what they are made of, and how an output is collected
//
// Every queue has a bound: messages in the outbox, messages in flight, entries ahead
// of a gap, pulls. Timers are fields; Deadline returns the earliest of them.
package engine
