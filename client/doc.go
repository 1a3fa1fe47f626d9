// Package client is pim's Go SDK: one device of one user.
//
// Open starts a Client, which connects and reconnects by itself. Events returns the
// channel of what happens: every entry of every conversation of the user once, own
// messages included. The entries of a conversation come in the order of their seqs,
// but for those that fill a gap (EntryEvent.Late). Send puts a message into the
// outbox and returns a Sending, which reports what becomes of the message. SendEvents
// report it too, even after a restart.
//
// # Promises
//
//   - A message that Send has accepted is sent once, whatever the network does. If
//     the Store outlives the process (package client/sqlite), this holds whatever
//     happens to the process.
//   - An entry is stored before it is handed over. It is handed over at most once for
//     a Store. If the process ends between the two, Messages and EntriesAfter still
//     return the entry. With Options.Confirm an entry is handed over at least once,
//     process after process, until the app has confirmed it: a bot misses none, and
//     its answers, which are queued together with the confirmation, are sent once.
//   - Messages of a conversation are sent in the order of their Sends.
//   - Memory is bounded: EventBuffer events, 10,000 messages or 64 MiB of payloads in
//     the outbox, a few pages of pulls.
//
// The app must read Events. A message that fails, because the server refused it for
// good or because no answer came for 180 seconds, stays in the outbox over restarts
// until the app decides: Resend or Discard.
//
// # Parts
//
// Package engine, which is pure, makes all decisions. Around it are a loop, which owns
// the engine and the store; a link for each connection (package transport), with a
// goroutine that reads and one that writes; and this API, which talks to the loop.
// Tests of apps can use the small server of package clienttest.
package client
