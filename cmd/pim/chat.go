package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type chatCmd struct {
	clientFlags
	target
	History int           `name:"history" default:"20" placeholder:"N" help:"Entries to show from before."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"At the end of the input: how long to wait for answers."`
	JSON    bool          `name:"json" help:"Print one JSON object an event."`
}

// chatAhead is how many messages wait for their answer before chat stops
// reading its input.
const chatAhead = 256

// chat is one run of the command. Run owns it.
type chat struct {
	ses    *session
	conv   pim.ConversationID
	view   chatView
	outage outage
	// waiting are the messages without an answer, with their text.
	waiting map[pim.ClientMessageID]string
	failed  error // the first message that was refused
}

// Run chats until the input ends and everything typed is answered.
func (c *chatCmd) Run(ctx context.Context, s streams) error {
	ses, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	conv, err := c.resolve(ses.user)
	if err != nil {
		return err
	}
	console, err := openConsole(s, ses.user)
	if err != nil {
		return err
	}
	defer console.close()
	ch := &chat{ses: ses, conv: conv, waiting: map[pim.ClientMessageID]string{}}
	if c.JSON {
		ch.view = &jsonView{out: console.out}
	} else {
		ch.view = &textView{printer{w: console.out}}
	}
	newest, err := ch.history(ctx, c.History)
	if err != nil {
		return err
	}
	if err := ses.Watch(ctx, conv, newest); err != nil {
		return err
	}
	return ch.loop(ctx, console, c.Timeout)
}

// history shows the last n entries and returns the newest seq.
func (ch *chat) history(ctx context.Context, n int) (pim.Seq, error) {
	page, err := ch.ses.Pull(ctx, ch.conv, 0, 0, max(1, min(n, pim.MaxPageEntries)), true)
	if pim.KindOf(err) == pim.KindNotFound && !ch.conv.IsGroup() {
		return 0, nil // nobody has written yet
	}
	if err != nil || n <= 0 {
		return page.Newest, err
	}
	slices.SortFunc(page.Entries, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
	for i := range page.Entries {
		if err := ch.view.entry(&page.Entries[i]); err != nil {
			return 0, err
		}
	}
	return page.Newest, nil
}

// loop passes lines out and events in until the input has ended and nothing
// waits any more, or until timeout after the input's end.
func (ch *chat) loop(ctx context.Context, console *console, timeout time.Duration) error {
	lines := console.lines(ctx)
	var ended <-chan time.Time
	for ended == nil || len(ch.waiting) > 0 {
		input := lines
		if len(ch.waiting) >= chatAhead {
			input = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return pim.Errorf(pim.KindTimeout, "%d messages have no answer after %s; they may have been stored all the same", len(ch.waiting), timeout)
		case line, ok := <-input:
			if !ok {
				console.close()
				lines, ended = nil, time.After(timeout)
				continue
			}
			if err := ch.send(ctx, line); err != nil {
				return err
			}
		case e, ok := <-ch.ses.Events():
			if !ok {
				return pim.Errorf(pim.KindUnavailable, "the connection ended")
			}
			if err := ch.handle(e); err != nil {
				return err
			}
		}
	}
	return errors.Join(console.err(), ch.failed)
}

func (ch *chat) send(ctx context.Context, line string) error {
	if line == "" {
		return nil
	}
	m, err := ch.ses.Send(ctx, ch.conv, []byte(line))
	if err != nil {
		return err
	}
	ch.waiting[m.ID()] = line
	if ch.outage.on {
		return ch.view.queued(m.ID(), line)
	}
	return nil
}

func (ch *chat) handle(e client.Event) error {
	switch e := e.(type) {
	case client.EntryEvent:
		own := e.Entry.Sender == ch.ses.user && e.Entry.Device == ch.ses.device // shown when it was sent
		if e.Entry.Conversation == ch.conv && !own {
			return ch.view.entry(&e.Entry)
		}
	case client.SendEvent:
		return ch.handleSend(e)
	case client.RefusedEvent:
		return e.Err
	case client.StateEvent:
		return ch.handleState(e)
	}
	return nil
}

func (ch *chat) handleSend(e client.SendEvent) error {
	text := ch.waiting[e.ID]
	switch e.State {
	case client.Delivered:
		delete(ch.waiting, e.ID)
		return ch.view.sent(e.ID, text, e.Sent)
	case client.Failed:
		delete(ch.waiting, e.ID)
		if ch.failed == nil {
			ch.failed = e.Err
		}
		return ch.view.failed(e.ID, text, e.Err)
	}
	return nil
}

func (ch *chat) handleState(e client.StateEvent) error {
	if e.State == client.Stopped && e.Err != nil {
		return e.Err
	}
	if !ch.outage.turns(e) {
		return nil
	}
	return ch.view.state(e)
}
