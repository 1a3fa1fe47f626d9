package main

import (
	"os/signal"
	"syscall"
	"time"
)

const (
	// terminalLook is how often a server looks whether its terminal is still there.
	terminalLook = time.Second
	// terminalTogether is how far a SIGHUP and the loss of the terminal may be apart to be
	// the same event. A shell that exits sends the signal before the terminal goes; a
	// terminal that is closed goes before the signal comes.
	terminalTogether = 5 * time.Second
)

// ownTerminal tells the two meanings of SIGHUP apart: somebody asks for the files to be
// read again, or the terminal in which the server was started has been closed. It is
// used by one goroutine.
type ownTerminal struct {
	look   func() bool // whether the process has a terminal now
	there  bool        // it had a terminal at the last look
	lost   time.Time   // when a look found the terminal gone; zero: never
	hangup time.Time   // time of the last SIGHUP; zero: none
}

// findTerminal returns the terminal that controls this process. A server that was started
// with nohup counts as one without a terminal: it must outlive its terminal.
func findTerminal() *ownTerminal {
	return &ownTerminal{look: hasTerminal, there: !signal.Ignored(syscall.SIGHUP) && hasTerminal()}
}

// hungUp notes a SIGHUP, and reports whether it means that the terminal was closed.
func (t *ownTerminal) hungUp(now time.Time) bool {
	t.hangup = now
	return t.closed(now)
}

// closed looks again, and reports whether the terminal went together with a SIGHUP. If it
// went without a SIGHUP, the server goes on: it was put into the background to stay.
func (t *ownTerminal) closed(now time.Time) bool {
	if t.there && !t.look() {
		t.there, t.lost = false, now
	}
	return !t.there && !t.lost.IsZero() && !t.hangup.IsZero() && t.lost.Sub(t.hangup).Abs() <= terminalTogether
}
