package main

import (
	"bufio"
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
	Text    []string      `arg:"" sep:"none" help:"Text; a single - sends each line of standard input as a message."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for each answer."`
	JSON    bool          `name:"json" help:"Print one JSON object a message."`
}

// sendAhead is how many messages wait for their answer at the same time.
const sendAhead = 64

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
	// What stops the connection for good ends the waiting.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session

	source := io.Reader(strings.NewReader(strings.Join(c.Text, " ")))
	split := bufio.SplitFunc(scanAll)
	if len(c.Text) == 1 && c.Text[0] == "-" {
		source, split = s.in, bufio.ScanLines
	}
	sending := make(chan *client.Sending, sendAhead)
	failed := make(chan error, 1)
	go func() { // ends with the source, or with ctx
		defer close(sending)
		failed <- sendEach(ctx, ses.Client, conv, source, split, sending)
	}()
	for m := range sending {
		if err := c.answer(ctx, ses, m, s.out); err != nil {
			cancel(err) // what is still unsent stays so
			return causeOf(ctx, err)
		}
	}
	return causeOf(ctx, <-failed)
}

// answer waits for the answer to m and prints it.
func (c *sendCmd) answer(ctx context.Context, ses *session, m *client.Sending, w io.Writer) error {
	sent, err := ses.waitFor(ctx, m, c.Timeout)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(w).Encode(sentOf(m.ID(), sent))
	}
	_, err = fmt.Fprintf(w, "stored: %s #%d\n", sent.Conversation, sent.Seq)
	return err
}

// sendEach queues one message for each token of r.
func sendEach(ctx context.Context, c *client.Client, conv pim.ConversationID, r io.Reader, split bufio.SplitFunc, out chan<- *client.Sending) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, pim.MaxPayload+2) // the line end does not count
	lines.Split(split)
	for lines.Scan() {
		m, err := c.Send(ctx, conv, []byte(lines.Text()))
		if err != nil {
			return err
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return pim.Errorf(pim.KindTooLarge, "a line is longer than %d bytes, which is the most that a message holds", pim.MaxPayload)
	}
	return lines.Err()
}

// scanAll is a split function that makes one token of everything.
func scanAll(data []byte, atEOF bool) (int, []byte, error) {
	if !atEOF {
		return 0, nil, nil
	}
	return len(data), data, bufio.ErrFinalToken
}

// waitFor waits for the answer to m, at most for timeout. stopped reads the events
// meanwhile.
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
			if e.State == client.Stopped && e.Err != nil {
				return e.Err
			}
		}
	}
	return nil
}

// causeOf returns err, or why ctx ended if that is why there is an err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(err, ctx.Err()) && cause != nil {
		return cause
	}
	return err
}
