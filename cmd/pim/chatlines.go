package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// chatAhead is how many messages wait for their answer before chat stops
// reading its input.
const chatAhead = 256

// lineChat is a chat line by line. Its run owns it.
type lineChat struct {
	ses    *session
	conv   pim.ConversationID
	newest pim.Seq // of what was shown at the beginning
	view   chatView
	outage outage
	kept   bool // the outbox outlives the process
	// waiting are the messages, with their text, and commands without an answer;
	// typed the messages that are shown as they are sent, and not as entries.
	waiting  map[pim.ClientMessageID]string
	typed    map[pim.ClientMessageID]bool
	creating map[pim.ClientMessageID]bool // groups
	refused  []refusal
}

// refusal is a message that has failed.
type refusal struct {
	id   pim.ClientMessageID
	text string
	err  error
}

// lines chats until the input ends and everything typed is answered.
func (c *chatCmd) lines(ctx context.Context, s streams, conv pim.ConversationID, o client.Options) error {
	ses, err := c.open(ctx, o)
	if err != nil {
		return err
	}
	defer ses.Close()
	console, err := openConsole(s, ses.user)
	if err != nil {
		return err
	}
	defer console.close()
	ch := &lineChat{
		ses: ses, conv: conv, kept: !c.Memory,
		waiting: make(map[pim.ClientMessageID]string), typed: make(map[pim.ClientMessageID]bool),
		creating: make(map[pim.ClientMessageID]bool),
	}
	if c.JSON {
		ch.view = &jsonView{out: console.out}
	} else {
		ch.view = &textView{printer{w: console.out}}
	}
	if err := ch.history(ctx, c.History); err != nil {
		return err
	}
	return ch.loop(ctx, console, c.Timeout)
}

// history shows the last n entries, as the server has them: the local store may
// still be behind.
func (ch *lineChat) history(ctx context.Context, n int) error {
	page, err := ch.ses.Pull(ctx, ch.conv, 0, 0, max(1, min(n, pim.MaxPageEntries)), true)
	if pim.KindOf(err) == pim.KindNotFound && !ch.conv.IsGroup() {
		return nil // nobody has written yet
	}
	ch.newest = page.Newest
	if err != nil || n <= 0 {
		return err
	}
	slices.SortFunc(page.Entries, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
	for i := range page.Entries {
		if err := ch.view.entry(&page.Entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// loop passes lines out and events in until the input has ended and nothing
// waits any more, or until timeout after the input's end.
func (ch *lineChat) loop(ctx context.Context, console *console, timeout time.Duration) error {
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
			return ch.unanswered(timeout)
		case line, ok := <-input:
			quit := !ok
			if ok {
				var err error
				if quit, err = ch.read(ctx, line); err != nil {
					return err
				}
			}
			if quit {
				console.close()
				lines, ended = nil, time.After(timeout)
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
	if len(ch.refused) > 0 {
		return errors.Join(console.err(), ch.refused[0].err)
	}
	return console.err()
}

func (ch *lineChat) unanswered(timeout time.Duration) error {
	then := "they may have been stored all the same"
	if ch.kept {
		then = "the next chat goes on sending them"
	}
	return pim.Errorf(pim.KindTimeout, "%d messages have no answer after %s; %s", len(ch.waiting), timeout, then)
}

// read does what a line asks for.
func (ch *lineChat) read(ctx context.Context, line string) (quit bool, err error) {
	e, err := chat.Read(line, ch.ses.user, ch.conv)
	if err != nil {
		return false, ch.view.notice(chat.Plain(err))
	}
	switch e := e.(type) {
	case nil:
		return false, nil
	case chat.Quit:
		return true, nil
	case chat.Help:
		for _, text := range chat.Commands() {
			err = errors.Join(err, ch.view.notice(text))
		}
		return false, err
	case chat.Open:
		return false, ch.view.notice("this chat keeps to " + string(ch.conv))
	case chat.Resend, chat.Discard:
		return false, ch.settle(ctx, e)
	case chat.Send:
		return false, ch.send(ctx, e)
	}
	id, err := chat.Do(ctx, ch.ses.Client, e)
	if err != nil {
		return false, ch.view.notice(chat.Plain(err))
	}
	if !id.IsZero() {
		ch.waiting[id] = ""
	}
	switch e := e.(type) {
	case chat.Group:
		ch.creating[id] = true
	case chat.Change:
		return false, ch.view.notice(e.Said())
	}
	return false, nil
}

func (ch *lineChat) send(ctx context.Context, e chat.Send) error {
	id, err := chat.Do(ctx, ch.ses.Client, e)
	if err != nil {
		return err
	}
	ch.waiting[id], ch.typed[id] = e.Text, true
	if ch.ses.State() != client.Connected {
		return ch.view.queued(id, e.Text)
	}
	return nil
}

// settle sends the last failed message of this chat again, or gives it up.
func (ch *lineChat) settle(ctx context.Context, e chat.Effect) error {
	if len(ch.refused) == 0 {
		return ch.view.notice("no message here has failed")
	}
	last := ch.refused[len(ch.refused)-1]
	_, again := e.(chat.Resend)
	if e = chat.Effect(chat.Discard{ID: last.id}); again {
		e = chat.Resend{ID: last.id}
	}
	if _, err := chat.Do(ctx, ch.ses.Client, e); err != nil {
		return ch.view.notice(chat.Plain(err))
	}
	ch.forgive(last.id)
	if again {
		ch.waiting[last.id], ch.typed[last.id] = last.text, true
	}
	return nil
}

// forgive forgets that a message has failed.
func (ch *lineChat) forgive(id pim.ClientMessageID) {
	ch.refused = slices.DeleteFunc(ch.refused, func(r refusal) bool { return r.id == id })
}

func (ch *lineChat) handle(e client.Event) error {
	switch e := e.(type) {
	case client.EntryEvent:
		switch {
		case e.Entry.Conversation != ch.conv:
		case ch.typed[e.Entry.ClientID]:
			delete(ch.typed, e.Entry.ClientID) // shown when it was sent
		case e.Entry.Seq > ch.newest:
			return ch.view.entry(&e.Entry)
		}
	case client.SendEvent:
		return ch.handleSend(e)
	case client.StateEvent:
		return ch.handleState(e)
	}
	return nil
}

func (ch *lineChat) handleSend(e client.SendEvent) error {
	text, typed := ch.waiting[e.ID], ch.typed[e.ID]
	switch e.State {
	case client.Delivered:
		delete(ch.waiting, e.ID)
		if ch.creating[e.ID] {
			delete(ch.creating, e.ID)
			return ch.view.notice("created " + string(e.Sent.Conversation))
		}
		if typed {
			return ch.view.sent(e.ID, text, e.Sent)
		}
	case client.Failed:
		delete(ch.waiting, e.ID)
		delete(ch.typed, e.ID)
		if typed {
			ch.refused = append(ch.refused, refusal{e.ID, text, e.Err})
			return ch.view.failed(e.ID, text, e.Err)
		}
		return ch.view.notice("not done: " + chat.Plain(e.Err))
	case client.Superseded:
		delete(ch.waiting, e.ID)
	case client.Discarded:
		ch.forgive(e.ID) // of too many that have failed the SDK drops the first
	}
	return nil
}

func (ch *lineChat) handleState(e client.StateEvent) error {
	if e.State == client.Stopped && e.Err != nil {
		return e.Err
	}
	if !ch.outage.turns(e) {
		return nil
	}
	return ch.view.state(e)
}
