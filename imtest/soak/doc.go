// Package soak keeps a server busy for a long time, kills it with SIGKILL again and
// again, and shows in the end that nothing was lost, doubled or misordered. It is
// what `make soak-load` runs.
//
// The users are real clients: the SDK with its outbox, two devices each, that send to
// each other and into groups. What they sent and were told, and a fingerprint of each
// entry that a device handed over, is all that is kept, so that half an hour of load
// fits into memory. The check shares no code with the server or the SDK: it reads
// every conversation anew from the server and compares it with what was kept.
package soak
