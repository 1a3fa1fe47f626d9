package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// sendAhead is how many messages may wait for their answer at the same time.
const sendAhead = 64

// lineSender sends each line of the input. A line that this program or the server refuses
// is reported with its number, and the other lines are still sent.
type lineSender struct {
	cmd     *sendCmd
	ses     *session
	conv    pim.ConversationID
	payload func(text string) ([]byte, error) // of a line
	s       streams

	queued  atomic.Int64 // number of the last line that was given to the client
	refused refusals
}

// sentLine is a line and the message that it has become; m is nil if there is none.
type sentLine struct {
	inputLine
	m *client.Sending
}

// run sends all lines and waits for what becomes of each.
func (l *lineSender) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx) // ends queue
	defer cancel(nil)
	lines := make(chan sentLine, sendAhead)
	ended := make(chan error, 1)
	// The goroutine ends with the input, or with ctx. A read that is under way when ctx
	// ends cannot be interrupted: then it ends with the input, or with the process.
	go func() {
		defer close(lines)
		ended <- l.queue(ctx, lines)
	}()
	last := 0
	for {
		select {
		case <-ctx.Done():
			return l.broken(context.Cause(ctx), last+1)
		case line, ok := <-lines:
			if !ok {
				return errors.Join(<-ended, l.refused.err(last))
			}
			if err := l.answer(ctx, line); err != nil {
				err = causeOf(ctx, err)
				cancel(err) // nothing more is sent
				return l.broken(err, line.number)
			}
			last = line.number
		}
	}
}

// queue makes a message of each line of the input.
func (l *lineSender) queue(ctx context.Context, to chan<- sentLine) error {
	in := newLineReader(l.s.in, pim.MaxPayload)
	for {
		line, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line.err == nil && empty(line.text) {
			continue
		}
		next := sentLine{inputLine: line}
		if next.err == nil {
			next.m, next.err = l.send(ctx, line.text)
		}
		if next.err != nil && !ofTheMessage(next.err) {
			return fmt.Errorf("line %d and what follows it was not sent: %w", line.number, causeOf(ctx, next.err))
		}
		l.queued.Store(int64(line.number))
		select {
		case to <- next:
		case <-ctx.Done():
			return nil // run says what became of the line
		}
	}
}

func (l *lineSender) send(ctx context.Context, text string) (*client.Sending, error) {
	payload, err := l.payload(text)
	if err != nil {
		return nil, err
	}
	return l.ses.Send(ctx, l.conv, payload, l.cmd.options()...)
}

// answer waits for what becomes of a line and prints it. An error ends the command.
func (l *lineSender) answer(ctx context.Context, line sentLine) error {
	err := line.err
	if line.m != nil {
		var sent client.Sent
		limited, cancel := l.cmd.limit(ctx)
		sent, err = l.ses.waitFor(limited, line.m)
		cancel()
		if err == nil {
			return l.cmd.print(l.s, line.number, line.m, sent)
		}
		if !ofTheMessage(err) {
			return err
		}
		// A failed message would keep its place in the outbox.
		if err := l.ses.Discard(ctx, line.m.ID()); err != nil && pim.KindOf(err) != pim.KindNotFound {
			return err
		}
	}
	l.refused.add(line.number, err)
	if _, err := fmt.Fprintf(l.s.err, "pim: line %d: %s\n", line.number, chat.Printable(chat.Plain(err))); err != nil {
		return err
	}
	if !l.cmd.JSON {
		return nil
	}
	return json.NewEncoder(l.s.out).Encode(refusedOf(line.number, err))
}

// broken adds to err, which has ended the command, what became of the lines. number is
// that of the line that was next.
func (l *lineSender) broken(err error, number int) error {
	rest := "what follows it was not sent"
	if queued := int(l.queued.Load()); queued > number {
		rest = fmt.Sprintf("of what follows it, the lines up to %d may have been stored, and the others were not sent", queued)
	}
	return errors.Join(fmt.Errorf("line %d: %w; %s", number, err, rest), l.refused.err(number))
}

// ofTheMessage reports whether err is about one message only, so that other messages may
// succeed.
func ofTheMessage(err error) bool {
	switch pim.KindOf(err) {
	case pim.KindInvalid, pim.KindTooLarge, pim.KindForbidden, pim.KindNotMember, pim.KindNotFound, pim.KindConflict, pim.KindOverloaded:
		return true
	}
	return false
}

// refusals are the lines of an input that were refused.
type refusals struct {
	count int
	line  int   // the first of them
	first error // why
}

func (r *refusals) add(line int, err error) {
	r.count++
	if r.first == nil || line < r.line {
		r.line, r.first = line, fmt.Errorf("line %d: %w", line, err)
	}
}

// err returns nil if no line was refused. lines is how many were read.
func (r *refusals) err(lines int) error {
	switch {
	case r.count == 0:
		return nil
	case lines == 1:
		return fmt.Errorf("the only line was refused: %w", r.first)
	case r.count == 1:
		return fmt.Errorf("1 of %d lines was refused: %w", lines, r.first)
	}
	return fmt.Errorf("%d of %d lines were refused, the first: %w", r.count, lines, r.first)
}
