// Package engine is the client's state machine. It is pure: no I/O, no
// goroutine, no clock and no randomness of its own. Package client is the shell
// that gives it a connection, a store and the time.
//
// # Duties of the caller
//
// Step takes one input at a time; Take then returns what is to be done. Several
// steps may precede one Take, which makes one transaction of what they store.
// For each Output, in this order:
//
//  1. Apply Store in one transaction. If that fails, stop: the engine is ahead
//     of the store. Nothing that follows may be done before it is durable.
//  2. Transmit Frames in order on the connection in use. A frame that cannot be
//     transmitted needs no attention: report the connection as Lost.
//  3. Close the connections of the attempts in Hangups, and report nothing more
//     of them.
//  4. For each of Dials get a token, dial, and answer with Dialled, NoToken or Lost.
//  5. Hand over Events, Filled and Pulled in order. While the app does not take
//     them, stop reading from the connection and say so with Pause.
//  6. Answer each of Reads with FromStore, before any other input.
//
// And in between, call Step(Tick) when Deadline has come; if a frame is half way
// in or out then, Step(Arriving) first.
//
// # Invariants
//
// The process may die between any two of these actions. Then:
//
//   - A message is in the store before it is transmitted, with the local time
//     that it is transmitted with. It leaves the store when the server has it, or
//     by the app's decision; one that has failed stays, with the reason. After a
//     restart it goes on with the same ID, so it has one effect.
//   - An entry is stored in the transaction that moves its conversation's
//     position over it, and is handed over after that. So it is stored once, and
//     the engine hands it over at most once; one that was stored and not handed over
//     is read from the store. Entries are numbered in the order in which they are
//     stored, and the number up to which the app has confirmed them is stored too.
//   - A position moves only over what is settled: an entry that follows the one
//     before, or what a pull says is not for this user.
//   - The serial of an acknowledgement is stored before it is sent. A server that
//     knows a higher one than the store tells a device that was restored from a
//     backup; that a full sync is needed is stored until it is complete.
//   - That the server may have gone back is stored until every conversation was
//     compared. What a conversation loses by that, its position, and what is kept
//     aside to be sent again change in one transaction; only the event that tells of
//     it is lost with the process.
//
// # Outline
//
//	link.go          the connection: its phases, backoff, GoAway
//	race.go          attempts to connect: to which servers, when, which one wins
//	hello.go         Hello and Welcome
//	token.go         tokens that are refused, or not to be had
//	silence.go       how a dead connection is noticed
//	heartbeat.go     how far apart heartbeats are, found out for each network
//	confirm.go       entries are numbered, and confirmed by the app
//	outbox.go        messages on their way: lanes, what failed
//	transmit.go      their transmission, resends, answers
//	commands.go      the user's own log: commands and what they come to
//	conversation.go  positions: what is known, what is ahead of a gap
//	pull.go          the engine's own pulls: one a conversation, a few at a time
//	ask.go           the app's pulls
//	sync.go          the list of conversations that are behind
//	ack.go           acknowledgements, coalesced
//	doubt.go         a server whose store went back: comparing what is known with it
//	former.go        what it has lost of the user's own, which is sent again
//	clock.go         the server's clock, from samples with the least delays; jumps
//
// Every queue has a bound: messages in the outbox, in flight, entries ahead of a
// gap, pulls. Timers are fields; Deadline is the least of them.
package engine
