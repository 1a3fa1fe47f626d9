package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/pim-im/pim"
)

// console is where chat reads lines and prints. It is a terminal, where the line being
// typed stays below what is printed, or any two streams.
type console struct {
	out     io.Writer
	read    func() (inputLine, error)
	restore func()
	once    sync.Once

	mu      sync.Mutex
	readErr error // why lines ended, other than at the end of the input
}

// openConsole takes over the terminal if s is one. close gives it back.
func openConsole(s streams, user pim.UserID) (*console, error) {
	if in, out, ok := s.terminal(); ok {
		return openTerminal(in, out, string(user)+"> ")
	}
	in := newLineReader(s.in, pim.MaxPayload+len("/")) // the line "//text" sends "/text"
	return &console{out: s.out, restore: func() {}, read: in.next}, nil
}

// terminalLine is how many characters a line of a terminal has at most; package
// term drops what is typed or pasted beyond them.
const terminalLine = 4096

func openTerminal(in, out *os.File, prompt string) (*console, error) {
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "take over the terminal: %w", err)
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, prompt)
	number, dropped := 0, false
	t.AutoCompleteCallback = func(line string, _ int, key rune) (string, int, bool) {
		// Package term passes keys that are no characters as surrogates, which are no valid
		// runes.
		dropped = dropped || key >= ' ' && utf8.ValidRune(key) && utf8.RuneCountInString(line) >= terminalLine
		return "", 0, false
	}
	return &console{
		out: t,
		restore: func() {
			io.WriteString(out, "\r\n") // leave the prompt's line
			term.Restore(int(in.Fd()), was)
		},
		read: func() (inputLine, error) {
			if w, h, err := term.GetSize(int(out.Fd())); err == nil && w > 0 && h > 0 {
				t.SetSize(w, h) // the window may have changed since the last line
			}
			dropped = false
			text, err := t.ReadLine()
			if errors.Is(err, term.ErrPasteIndicator) {
				err = nil
			}
			number++
			line := inputLine{number: number, text: text}
			if dropped {
				line = inputLine{number: number, err: pim.Errorf(pim.KindTooLarge,
					"the line is longer than %d characters, which is the most that a terminal takes here; longer ones come in from a file or a pipe", terminalLine)}
			}
			return line, err
		},
	}, nil
}

// lines reads lines in the background and closes the channel at the input's end
// or after ctx has ended. A read that is under way when ctx ends cannot be interrupted:
// the goroutine ends with the input, or with the process.
func (c *console) lines(ctx context.Context) <-chan inputLine {
	lines := make(chan inputLine)
	go func() {
		defer close(lines)
		for {
			line, err := c.read()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					c.mu.Lock()
					c.readErr = err
					c.mu.Unlock()
				}
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// err returns why the lines ended, nil if the input ended.
func (c *console) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readErr
}

// close gives the terminal back. It may be called more than once.
func (c *console) close() { c.once.Do(c.restore) }
