//go:build !unix

package main

// hasTerminal reports false: a console that is closed ends the process by itself here.
func hasTerminal() bool { return false }
