// Package imtest tests that pim keeps its promise. A Lab runs a server in this process
// with scripted users, a History records what they sent and saw, and Check compares the
// History with the invariants I1 to I7 of docs/protocol.md, section 16.
//
// Check shares no code with the server or the client, and takes none of their
// shortcuts: it works out from the rules alone which user reads which entries and where
// each entry is displayed. Servers that are broken on purpose show that Check
// notices (mutations_test.go).
package imtest
