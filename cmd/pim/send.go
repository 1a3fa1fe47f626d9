package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type sendCmd struct {
	clientFlags
	target
	Text    []string      `arg:"" sep:"none" help:"Text; a single - sends each line of standard input as a message. A line that is refused is named on standard error, and the rest goes on."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for each answer."`
	JSON    bool          `name:"json" help:"Print one JSON object a message."`
}

// Run sends and prints what the server answers.
func (c *sendCmd) Run(ctx context.Context, s streams) error {
	ses, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	conv, err := c.resolve(ses.user)
	if err != nil {
		return err
	}
	// If the connection stops for good, the waiting ends.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session

	if len(c.Text) == 1 && c.Text[0] == "-" {
		return (&lineSender{cmd: c, ses: ses, conv: conv, s: s}).run(ctx, cancel)
	}
	text := strings.Join(c.Text, " ")
	if len(text) > pim.MaxPayload {
		return pim.Errorf(pim.KindTooLarge, "the text has %d bytes, a message holds at most %d", len(text), pim.MaxPayload)
	}
	m, err := ses.Send(ctx, conv, []byte(text))
	if err != nil {
		return causeOf(ctx, err)
	}
	sent, err := ses.waitFor(ctx, m, c.Timeout)
	if err != nil {
		return causeOf(ctx, err)
	}
	return c.print(s.out, 0, m, sent)
}

// print prints what became of m. line is the number of the line that m was; 0: none.
func (c *sendCmd) print(w io.Writer, line int, m *client.Sending, sent client.Sent) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(struct {
			sentJSON
			Line int `json:"line,omitempty"`
		}{sentOf(m.ID(), sent), line})
	}
	_, err := fmt.Fprintf(w, "stored: %s #%d\n", sent.Conversation, sent.Seq)
	return err
}

// waitFor waits for the answer to m, at most for timeout. Meanwhile another goroutine
// must read the events, see stopped.
func (s *session) waitFor(ctx context.Context, m *client.Sending, timeout time.Duration) (client.Sent, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sent, err := m.Wait(limited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if why := s.delays.of(m.ID()); why != nil {
			return sent, pim.Errorf(pim.KindTimeout, "not stored within %s: %w; it may have been stored all the same", timeout, why)
		}
		return sent, pim.Errorf(pim.KindTimeout, "no answer within %s; the message may have been stored all the same", timeout)
	}
	return sent, err
}

// stopped reads events until the connection is given up, and returns why; nil
// if the client was closed.
func (s *session) stopped() error {
	for e := range s.Events() {
		switch e := e.(type) {
		case client.SendEvent:
			s.delays.note(e)
		case client.StateEvent:
			if err := s.over(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// causeOf returns the cause of ctx's end if err is there only because ctx ended;
// otherwise it returns err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(err, ctx.Err()) && cause != nil {
		return cause
	}
	return err
}
