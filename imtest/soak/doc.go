// Package soak keeps a server busy for a long time, kills it with SIGKILL again and
// again, and shows in the end that nothing was lost, doubled or misordered. It is
// what `make soak-load` runs.
//
// The users are real clients: the SDK with its outbox, two devices each, that send to
// each other and into groups. So that half an hour of load fits into memory, the soak
// keeps only what they sent, the answers, and a fingerprint of each entry that a device
// handed over. In the end it reads every conversation anew from the server and compares
// it with what was kept. The comparison shares no code with the server or the SDK.
package soak
