package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// How often a command that takes long says how far it has come.
const (
	progressInPlace = time.Second      // on a terminal, always in the same line
	progressLines   = 10 * time.Second // into a log
)

// progress shows lines. On a terminal, each line replaces the one before.
type progress struct {
	w       io.Writer
	every   time.Duration
	inPlace bool
	shown   bool
}

// progressOn returns a progress that shows its lines on w. If shared is set, others write
// to w as well, so no line is replaced.
func progressOn(w io.Writer, shared bool) *progress {
	f, ok := w.(*os.File)
	if ok && !shared && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd())) {
		return &progress{w: w, every: progressInPlace, inPlace: true}
	}
	return &progress{w: w, every: progressLines}
}

// Write shows a line.
func (p *progress) Write(line []byte) (int, error) {
	if !p.inPlace {
		return p.w.Write(line)
	}
	p.shown = true
	_, err := fmt.Fprintf(p.w, "\r%s\x1b[K", bytes.TrimSuffix(line, []byte("\n")))
	return len(line), err
}

// end removes the last line.
func (p *progress) end() {
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
	}
}
