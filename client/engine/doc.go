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
//  4. For each of Dials get a token, dial, and answer with Dialled, NoToken or Lost.
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
//	effects.go       what the steps come to, for the next Take
//	link.go          the connection: its phases, backoff, GoAway
//	race.go          a round of attempts to connect: when, which one wins
//	route.go         which server is tried next
//	backoff.go       how long to wait between rounds
//	strays.go        Hellos that nobody awaits, and that may replace a connection
//	hello.go         Hello and Welcome
//	token.go         tokens that the server refuses, or that the app does not give
//	alive.go         heartbeats and pings
//	watchdog.go      how a dead connection is noticed
//	heartbeat.go     how far apart they are, found out for each network
//	confirm.go       entries are numbered, and confirmed by the app
//	outbox.go        messages on their way: lanes, what failed
//	age.go           which messages are too old to be transmitted
//	transmit.go      their transmission, resends, refusals
//	sent.go          what an answer means for the conversation
//	commands.go      the user's own log: commands are given, and obeyed
//	settings.go      what they come to
//	conversation.go  positions: what is known, what is ahead of a gap
//	conversations.go all of them, and how many are not complete
//	pull.go          catching up: what is pulled, and what an answer settles
//	pulls.go         the engine's own pulls: one a conversation, a few at a time
//	gaps.go          long gaps: jumped first, filled later
//	holes.go         what is missing below a position
//	fills.go         the app's requests to fill holes
//	ask.go           the app's pulls
//	sync.go          the sync list: which conversations are behind
//	synclist.go      how far it is read
//	ack.go           acknowledgements, coalesced
//	doubt.go         a server whose store went back: its logs are compared with ours
//	doubts.go        which are compared, and the signs of a Welcome
//	check.go         the comparison of one conversation: its last common entry
//	former.go        the user's own entries that the server has lost are sent again
//	wishes.go        what the commands come to that the server has lost
//	fetch.go         reads of the device's own store
//	clock.go         the server's clock, from samples with the least delays; jumps
//	look.go          what a shell may look at between two steps
//
// Every queue has a bound: messages in the outbox, messages in flight, entries ahead
// of a gap, pulls. Timers are fields; Deadline returns the earliest of them.
package engine
