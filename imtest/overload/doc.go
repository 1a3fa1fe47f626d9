// Package overload shows what becomes of a node to which more comes than it can take: how much it still does, and how
// long what it has let in takes.
//
// Slow makes a node slow on purpose, so that a generator on the same machine can offer ten times what it can take. The tests play
// the writers of a node over it in virtual time; `go run ./imtest/overload/measure` measures a real server.
package overload
