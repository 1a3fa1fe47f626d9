// Package client is pim's Go SDK: one device of one user.
//
// Open starts a Client, which connects, and connects again, by itself. Events
// hands over what happens: every entry of every conversation of the user once,
// in the order of its conversation, own messages included. Send puts a message
// into the outbox and returns; what became of it is in the Sending, and in a
// SendEvents, which come after a restart too.
//
// # Promises
//
//   - A message that Send has taken is sent once, whatever the network does, and
//     when the Store outlives the process (package client/sqlite), whatever
//     happens to that.
//   - An entry is stored before it is handed over. It is handed over at most
//     once for a Store; one that the process did not live to hand over is found
//     by Messages and EntriesAfter. With Options.Confirm it is handed over at least
//     once, process after process, until the app has confirmed it: a bot misses
//     none, and its answers, queued together with the confirmation, are sent once.
//   - Messages of a conversation are sent in the order of their Sends.
//   - Memory is bounded: EventBuffer events, 10,000 messages or 64 MiB in the
//     outbox, a few pages of pulls.
//
// The app must read Events. A message that fails, for good or because no answer
// came for 180 seconds, stays in the outbox over restarts until the app decides:
// Resend or Discard.
//
// # Parts
//
// Everything that decides is in package engine, which is pure. Around it are a
// loop, which owns the engine and the store, a link with a reader and a writer
// for each connection (package transport), and this API, which talks to the
// loop. Tests of apps can use the small server of package clienttest.
package client
