package client

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/content"
)

// Message is one line of a View.
type Message struct {
	Entry pim.Entry  // of a message in the outbox: without seq, server time and sender; of a recalled or erased one: Erased
	State SendState  // Delivered: the entry is in the log
	Err   *pim.Error // why it waits or has failed
	// Fold is what other entries have made of the message, those of this device in the outbox
	// included: they count as the last.
	Fold pim.Fold

	user pim.UserID // of this device
}

// Text returns the text that the message shows, see content.Preview. It is that of the last
// edit, and empty if the message was recalled.
func (m *Message) Text() string { return textOf(m.Payload(), false) }

// Content returns what the message says now; errors are those of content.Parse.
func (m *Message) Content() (content.Content, error) { return content.Parse(m.Payload()) }

// textOf returns the text of payload. A payload that is neither text nor an envelope
// is returned as it is.
func textOf(payload []byte, cut bool) string {
	if !content.IsEnvelope(payload) {
		return string(payload)
	}
	text, _ := content.Preview(payload, cut)
	return text
}

// Pending reports whether the message is in the outbox.
func (m *Message) Pending() bool { return m.State != Delivered }

// View is a live, ordered window on the end of a conversation: its newest entries in
// display order, and after them the messages in the outbox with their states. An edit, a
// recall, a reaction or a pin is no line: it changes that of its message. Nothing in
// it ever changes places, except that a message takes its final place when it is
// delivered; entries may appear in between. A View grows with the entries that come in,
// and with Older. If a gap is left to scrolling (Options.LazyGap), the View begins anew
// with the entries after the gap. All methods may be called concurrently. The caller
// must Close the View.
type View struct {
	client  *Client
	conv    pim.ConversationID
	size    int     // how many entries it was opened with
	skipped pim.Seq // the end of the last gap that was left to scrolling; owned by the loop

	mu      sync.Mutex // guards line
	line    timeline
	changed chan struct{} // capacity 1
	older   sync.Mutex    // one Older at a time
}

// Messages opens a View with the last n entries. While it is open, the client pulls what
// the conversation lacks before anything else. If several Views are open, this holds for
// the one that was opened last.
func (c *Conversation) Messages(ctx context.Context, n int) (*View, error) {
	if err := c.id.Validate(); err != nil {
		return nil, err
	}
	v := &View{client: c.client, conv: c.id, size: n, changed: make(chan struct{}, 1)}
	err := c.client.inLoop(ctx, func() error {
		page, err := c.client.store.Entries(ctx, c.id, nil, n)
		if err != nil {
			return err
		}
		v.skipped = c.client.loop.engine.Skipped(c.id, endSeq)
		folds, err := c.client.foldsOf(ctx, c.id, page)
		if err != nil {
			return err
		}
		v.line.user, v.line.front = c.client.loop.engine.User(), c.client.loop.engine.Front(c.id)
		v.line.fold(folds)
		all := len(page) < n && v.skipped == 0
		page = slices.DeleteFunc(page, func(e pim.Entry) bool { return e.Seq <= v.skipped })
		v.line.prepend(page, all)
		for _, p := range c.client.loop.engine.Outbox(c.id) {
			v.line.put(p)
		}
		c.client.loop.views = append(c.client.loop.views, v)
		return c.client.step(engine.Open{Conversation: c.id})
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Message returns the message at seq as a View shows it. It asks the local store only: the error is
// of KindNotFound if this device does not hold the message, or if the entry there is no line of a
// View.
func (c *Conversation) Message(ctx context.Context, seq pim.Seq) (Message, error) {
	if err := c.id.Validate(); err != nil {
		return Message{}, err
	}
	var t timeline
	err := c.client.inLoop(ctx, func() error {
		page, err := c.client.store.Range(ctx, c.id, seq, seq, 1)
		if err != nil || len(page) == 0 {
			return err
		}
		folds, err := c.client.foldsOf(ctx, c.id, page)
		if err != nil {
			return err
		}
		t.user = c.client.loop.engine.User()
		t.fold(folds)
		t.prepend(page, true)
		for _, p := range c.client.loop.engine.Outbox(c.id) {
			if p.Refers == seq && refers(p.Kind) {
				t.put(p)
			}
		}
		return nil
	})
	if err != nil {
		return Message{}, err
	}
	items := t.items()
	if len(items) == 0 {
		return Message{}, pim.Errorf(pim.KindNotFound, "this device holds no message at seq %d of %s", seq, c.id)
	}
	return items[0], nil
}

// Items returns what the View shows now, in display order. The caller owns the list;
// payloads and members are shared.
func (v *View) Items() []Message {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.line.items()
}

// Front returns the first seq that retention has left of the conversation: what was displayed
// before is gone for good. It is 0 if nothing was removed.
func (v *View) Front() pim.Seq {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.line.front
}

// Changes returns a channel from which the app can receive whenever Items has changed
// since the last receive.
func (v *View) Changes() <-chan struct{} { return v.changed }

// Older adds the n entries displayed before the first, and reports whether there may be
// more. If the store lacks entries there, Older pulls them, and waits for a connection as
// long as ctx allows.
func (v *View) Older(ctx context.Context, n int) (more bool, err error) {
	v.older.Lock()
	defer v.older.Unlock()
	for n > 0 {
		var seq pim.Seq
		missing := false
		// All of this runs in the loop, so that no entry comes between Entries and
		// prepend. The page would not have that entry, and insert would not show it,
		// because it would lie before the floor.
		err := v.client.inLoop(ctx, func() error {
			var before *pim.Place
			before, seq = v.first()
			page, err := v.client.store.Entries(ctx, v.conv, before, n)
			if err != nil {
				return err
			}
			least := pim.Seq(1)
			if len(page) == n {
				least = slices.MinFunc(page, func(a, b pim.Entry) int { return cmp.Compare(a.Seq, b.Seq) }).Seq
			}
			if missing = v.client.loop.engine.Missing(v.conv, least, seq-1); missing {
				return nil
			}
			folds, err := v.client.foldsOf(ctx, v.conv, page)
			if err != nil {
				return err
			}
			more = len(page) == n
			v.take(func(t *timeline) bool {
				t.fold(folds)
				t.prepend(page, !more)
				return len(page) > 0
			})
			return nil
		})
		if err != nil || !missing {
			return more, err
		}
		if err := v.client.fill(ctx, v.conv, seq, n); err != nil {
			return false, err
		}
	}
	return true, nil
}

// length returns how many entries it holds.
func (v *View) length() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.line.entries)
}

// endSeq is above every seq.
const endSeq = pim.Seq(1<<63 - 1)

// first returns the place and seq of the first entry; without entries, nil and endSeq.
func (v *View) first() (*pim.Place, pim.Seq) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.line.entries) == 0 {
		return nil, endSeq
	}
	place := v.line.entries[0].Place()
	return &place, v.line.entries[0].Seq
}

// Close ends the View. Items stays as it is.
func (v *View) Close() {
	// No context is needed: the loop answers at once, or has ended.
	_ = v.client.inLoop(context.Background(), func() error {
		l := &v.client.loop
		last := pim.ConversationID("")
		rest := l.views[:0]
		for _, other := range l.views {
			if other != v {
				rest = append(rest, other)
				last = other.conv
			}
		}
		l.views = rest
		return v.client.step(engine.Open{Conversation: last})
	})
}

// take changes the timeline, and tells Changes if change reports that it did.
func (v *View) take(change func(*timeline) bool) {
	v.mu.Lock()
	changed := change(&v.line)
	v.mu.Unlock()
	if changed {
		select {
		case v.changed <- struct{}{}:
		default:
		}
	}
}

// show brings the views up to date with an event, before the app hears of it.
func (c *Client) show(ev Event) {
	for _, v := range c.loop.views {
		switch ev := ev.(type) {
		case EntryEvent:
			if ev.Entry.Conversation == v.conv {
				v.take(func(t *timeline) bool { return c.showEntry(v, t, ev) })
			}
		case StateEvent:
			v.take(func(t *timeline) bool {
				t.user = c.loop.engine.User()
				return false
			})
		case ChangedEvent:
			if ev.Conversation == v.conv {
				c.showChange(v, ev)
			}
		case ErasedEvent:
			if ev.Conversation == v.conv {
				v.take(func(t *timeline) bool { return t.erase(ev.Erasure) })
			}
		case RewoundEvent:
			if ev.Conversation == v.conv {
				c.reload(v)
			}
		case TrimmedEvent:
			if ev.Conversation == v.conv {
				v.take(func(t *timeline) bool { return t.trim(ev.Front) })
			}
		case SendEvent:
			if ev.Conversation == v.conv {
				v.take(func(t *timeline) bool { return c.showSend(t, ev) })
			}
		}
	}
}

func (c *Client) showEntry(v *View, t *timeline, ev EntryEvent) bool {
	if to := c.loop.engine.Skipped(v.conv, ev.Entry.Seq); to > v.skipped && !ev.Late {
		v.skipped = to
		t.skip(to, ev.Entry)
		return true
	}
	return t.insert(ev.Entry)
}

func (c *Client) showSend(t *timeline, ev SendEvent) bool {
	switch ev.State {
	case Delivered:
		t.sent(ev.ID, ev.Sent, c.loop.engine.User(), c.options.Device)
		return true
	case Discarded, Superseded:
		return t.drop(ev.ID)
	}
	p, ok := c.loop.engine.Message(ev.ID)
	if ok {
		p.State, p.Err = ev.State, ev.Err // as of this event; later ones may follow
		t.put(p)
	} else if ev.State == Failed { // what refers to a message leaves the outbox
		return t.drop(ev.ID)
	}
	return ok
}

// fill pulls what is missing of conv below the seq before.
func (c *Client) fill(ctx context.Context, conv pim.ConversationID, before pim.Seq, limit int) error {
	answer := make(chan engine.Filled, 1)
	c.mu.Lock()
	c.lastAsk++
	id := c.lastAsk
	c.fills[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.fills, id)
		c.mu.Unlock()
	}()
	if err := c.do(ctx, engine.Fill{ID: id, Conversation: conv, Before: before, Limit: limit}); err != nil {
		return err
	}
	select {
	case f := <-answer:
		return filledErr(f)
	case <-ctx.Done():
		// ctx has ended, so the call goes without it; the loop answers at once.
		_ = c.do(context.WithoutCancel(ctx), engine.Unask{ID: id})
		select {
		case f := <-answer: // in the last moment
			return filledErr(f)
		default:
			return c.inVain(ctx)
		}
	case <-c.closed:
		return ErrClosed
	}
}

// filledErr returns f.Err as an error.
func filledErr(f engine.Filled) error {
	if f.Err != nil {
		return f.Err
	}
	return nil
}
