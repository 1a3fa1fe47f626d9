package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// chatAhead is how many messages may wait for their answer before chat stops reading its
// input. Without a connection there is no such limit, see takes.
const chatAhead = 256

// lineChat is a chat line by line. It is used by one goroutine, that of lines.
type lineChat struct {
	ses      *session
	conv     pim.ConversationID
	newest   pim.Seq // the log's last seq at the beginning; later entries are shown
	view     chatView
	excerpts excerpts
	outage   outage
	kept     bool // the outbox outlives the process
	// waiting holds the messages and commands without an answer, and the lines that
	// they were. typed holds the messages that are shown when they are sent, and so not
	// as entries.
	waiting  map[pim.ClientMessageID]inputLine
	typed    map[pim.ClientMessageID]bool
	creating map[pim.ClientMessageID]bool // groups without an answer
	lines    int                          // read so far
	held     *inputLine                   // the line that waits for room in the outbox; nil: none
	failed   []failure
	refused  refusals // lines that have become no message
}

// failure is a message that has failed.
type failure struct {
	id   pim.ClientMessageID
	line inputLine
	err  error
}

// lines chats until the input ends and everything typed is answered.
func (c *chatCmd) lines(ctx context.Context, s streams, conv pim.ConversationID, o client.Options) error {
	wait := waitFlags{c.clientFlags, c.Timeout}
	ses, err := wait.reach(ctx, func(ctx context.Context) (*session, error) { return c.clientFlags.open(ctx, o) })
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
		waiting: make(map[pim.ClientMessageID]inputLine), typed: make(map[pim.ClientMessageID]bool),
		creating: make(map[pim.ClientMessageID]bool),
	}
	aside := asker{flags: c.clientFlags}
	defer aside.close()
	ch.excerpts.pull = func(ctx context.Context, seq pim.Seq) (client.Page, error) { return aside.pull(ctx, conv, seq) }
	if c.JSON {
		ch.view = &jsonView{out: console.out}
	} else {
		ch.view = &textView{printer{w: console.out}}
	}
	if err := ch.history(ctx, c.History); err != nil {
		return err
	}
	if err := ch.outstanding(ctx); err != nil {
		return err
	}
	return ch.loop(ctx, console, time.Duration(c.Timeout))
}

// history shows the last n entries. It reads them from the server, since the local store
// may still be behind.
func (ch *lineChat) history(ctx context.Context, n int) error {
	page, err := ch.ses.pull(ctx, ch.conv, 0, 0, max(1, min(n, pim.MaxPageEntries)), true)
	if pim.KindOf(err) == pim.KindNotFound && !ch.conv.IsGroup() {
		return nil // nobody has written yet
	}
	ch.newest = page.Newest
	if err != nil || n <= 0 {
		return err
	}
	slices.SortFunc(page.Entries, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
	for i := range page.Entries {
		if err := ch.show(ctx, &page.Entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// show shows an entry of the log.
func (ch *lineChat) show(ctx context.Context, e *pim.Entry) error {
	shown, err := ch.excerpts.show(ctx, e)
	if err != nil {
		return err
	}
	return ch.view.entry(shown)
}

// outstanding notes what the outbox still holds from an earlier chat: the end of this
// chat waits for the answers to that, too.
func (ch *lineChat) outstanding(ctx context.Context) error {
	outbox, err := ch.ses.Outbox(ctx)
	for _, p := range outbox {
		if p.State != client.Failed {
			ch.waiting[p.ID] = inputLine{}
		}
	}
	return err
}

// loop passes lines out and events in until the input has ended and nothing
// waits any more, or until timeout after the input's end.
func (ch *lineChat) loop(ctx context.Context, console *console, timeout time.Duration) error {
	lines := console.lines(ctx)
	var ended <-chan time.Time
	for ended == nil || len(ch.waiting) > 0 {
		input := lines
		if !ch.takes() {
			input = nil
		}
		select {
		case <-ctx.Done():
			return ch.broken(ctx.Err(), ended != nil)
		case <-ended:
			return errors.Join(pim.Errorf(pim.KindTimeout, "after %s %s", timeout, ch.unanswered()), console.err(), ch.unsent())
		case line, ok := <-input:
			quit := !ok
			if ok {
				var err error
				if quit, err = ch.take(ctx, line); err != nil {
					return ch.broken(err, false)
				}
			}
			if quit {
				console.close()
				lines, ended = nil, time.After(timeout)
			}
		case e, ok := <-ch.ses.Events():
			err := error(pim.Errorf(pim.KindUnavailable, "the connection ended"))
			if ok {
				err = ch.handle(ctx, e)
			}
			if err != nil {
				return ch.broken(err, ended != nil)
			}
		}
	}
	return errors.Join(console.err(), ch.unsent())
}

// takes reports whether a line may be read. Without a connection, lines are read unless
// one waits for room in the outbox: one of them may be the command that connects again.
func (ch *lineChat) takes() bool {
	return ch.held == nil && (len(ch.waiting) < chatAhead || ch.ses.State() != client.Connected)
}

// unanswered says what becomes of the messages that wait for an answer.
func (ch *lineChat) unanswered() string {
	what, then := fmt.Sprintf("%d messages have", len(ch.waiting)), "they may have been stored all the same"
	if len(ch.waiting) == 1 {
		what, then = "1 message has", "it may have been stored all the same"
	}
	if ch.kept {
		then = "the next chat goes on sending"
	}
	return what + " no answer; " + then
}

// broken adds to err, which ends the chat, what has become of the lines.
func (ch *lineChat) broken(err error, ended bool) error {
	if len(ch.waiting) > 0 {
		err = fmt.Errorf("%w; %s", err, ch.unanswered())
	}
	switch {
	case ch.held != nil:
		err = fmt.Errorf("%w; line %d and what follows it was not sent", err, ch.held.number)
	case !ended:
		err = fmt.Errorf("%w; what follows line %d was not read", err, ch.lines)
	}
	return errors.Join(err, ch.unsent())
}

// unsent names the lines that were not sent; nil if there are none.
func (ch *lineChat) unsent() error {
	all := ch.refused
	for _, f := range ch.failed {
		all.add(f.line.number, f.err)
	}
	return all.err(ch.lines)
}

// take does what a line asks for. An error ends the chat.
func (ch *lineChat) take(ctx context.Context, line inputLine) (quit bool, err error) {
	ch.lines = line.number
	if line.err != nil {
		return false, ch.refuse(line, line.err)
	}
	e, err := chat.Read(line.text, ch.ses.user, ch.conv)
	if err != nil { // such as a text that starts with a path: it must not be lost in silence
		return false, ch.refuse(line, err)
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
		return false, ch.send(ctx, e, line)
	}
	id, err := chat.Do(ctx, ch.ses.Client, e)
	if err != nil {
		return false, ch.refuse(line, err)
	}
	if !id.IsZero() {
		ch.waiting[id] = line
	}
	switch e := e.(type) {
	case chat.Group:
		ch.creating[id] = true
	case chat.Change:
		return false, ch.view.notice(e.Said())
	}
	return false, nil
}

// send queues a message. If the outbox is full, it holds the line until there is room. But
// if the user is offline on purpose, or no message waits for an answer, it refuses the
// line, which would be held for ever.
func (ch *lineChat) send(ctx context.Context, e chat.Send, line inputLine) error {
	if len(e.Text) > pim.MaxPayload { // the line reader takes one byte more, for "//text"
		return ch.refuse(line, lineTooLong(pim.MaxPayload))
	}
	id, err := chat.Do(ctx, ch.ses.Client, e)
	ch.held = nil
	switch {
	case pim.KindOf(err) == pim.KindOverloaded && len(ch.waiting) > 0 && ch.ses.State() != client.Offline:
		ch.held = &line
		return nil
	case err != nil && ofTheMessage(err):
		return ch.refuse(line, err)
	case err != nil:
		return fmt.Errorf("line %d was not sent: %w", line.number, err)
	}
	line.text = e.Text
	ch.waiting[id], ch.typed[id] = line, true
	if ch.ses.State() != client.Connected {
		return ch.view.queued(id, e.Text)
	}
	return nil
}

// refuse tells that a line becomes no message.
func (ch *lineChat) refuse(line inputLine, err error) error {
	ch.refused.add(line.number, err)
	return ch.view.refused(line.number, err)
}

// settle sends the last failed message of this chat again, or gives it up.
func (ch *lineChat) settle(ctx context.Context, e chat.Effect) error {
	if len(ch.failed) == 0 {
		return ch.view.notice("no message here has failed")
	}
	last := ch.failed[len(ch.failed)-1]
	_, again := e.(chat.Resend)
	if e = chat.Effect(chat.Discard{ID: last.id}); again {
		e = chat.Resend{ID: last.id}
	}
	if _, err := chat.Do(ctx, ch.ses.Client, e); err != nil {
		return ch.view.notice(chat.Plain(err))
	}
	ch.forgive(last.id)
	if again {
		ch.waiting[last.id], ch.typed[last.id] = last.line, true
	}
	return nil
}

// forgive forgets that a message has failed.
func (ch *lineChat) forgive(id pim.ClientMessageID) {
	ch.failed = slices.DeleteFunc(ch.failed, func(f failure) bool { return f.id == id })
}

// handle takes an event. An error ends the chat.
func (ch *lineChat) handle(ctx context.Context, e client.Event) error {
	if err := ch.handleEvent(ctx, e); err != nil || ch.held == nil {
		return err
	}
	// There may be room in the outbox now.
	_, err := ch.take(ctx, *ch.held)
	return err
}

func (ch *lineChat) handleEvent(ctx context.Context, e client.Event) error {
	switch e := e.(type) {
	case client.EntryEvent:
		switch {
		case e.Entry.Conversation != ch.conv:
		case ch.typed[e.Entry.ClientID]:
			delete(ch.typed, e.Entry.ClientID) // shown when it was sent
		case e.Entry.Seq > ch.newest:
			return ch.show(ctx, &e.Entry)
		}
	case client.SendEvent:
		return ch.handleSend(e)
	case client.RewoundEvent:
		if e.Conversation == ch.conv {
			ch.newest = min(ch.newest, e.After)
			ch.excerpts.forget()
			return ch.view.notice(rewoundLine(e))
		}
	case client.TrimmedEvent:
		if e.Conversation == ch.conv {
			return ch.view.notice(trimmedLine(e))
		}
	case client.StateEvent:
		return ch.handleState(e)
	}
	return nil
}

func (ch *lineChat) handleSend(e client.SendEvent) error {
	line, typed := ch.waiting[e.ID], ch.typed[e.ID]
	switch e.State {
	case client.Delivered:
		delete(ch.waiting, e.ID)
		if ch.creating[e.ID] {
			delete(ch.creating, e.ID)
			return ch.view.notice("created " + string(e.Sent.Conversation))
		}
		if typed {
			return ch.view.sent(e.ID, line.text, e.Sent)
		}
	case client.Failed:
		delete(ch.waiting, e.ID)
		delete(ch.typed, e.ID)
		if typed {
			ch.failed = append(ch.failed, failure{e.ID, line, e.Err})
			return ch.view.failed(e.ID, line.text, e.Err)
		}
		return ch.view.notice("not done: " + chat.Plain(e.Err))
	case client.Superseded:
		delete(ch.waiting, e.ID)
	case client.Discarded:
		ch.forgive(e.ID) // the SDK drops the first if too many have failed
	}
	return nil
}

func (ch *lineChat) handleState(e client.StateEvent) error {
	if err := ch.ses.over(e); err != nil {
		return err
	}
	if !ch.outage.turns(e) {
		return nil
	}
	return ch.view.state(e)
}
