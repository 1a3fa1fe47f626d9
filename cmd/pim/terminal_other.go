//go:build !unix

package main

// hasTerminal reports false: here, closing a console ends the process anyway.
func hasTerminal() bool { return false }
