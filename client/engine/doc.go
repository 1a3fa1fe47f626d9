// Package engine is the client's state machine.
package engine
