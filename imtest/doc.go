// Package imtest shows that pim keeps its promise: scripted users of a server in
// this process (Lab), what they sent and saw (History), and a checker of the
// invariants I1 to I7 of docs/architecture.md (Check).
//
// Check shares no code with the server or the client. It works out for itself,
// from the rules alone and without their shortcuts, who reads what and where each
// entry is displayed. Five servers, broken on purpose, show that it looks
// (mutations_test.go).
package imtest
