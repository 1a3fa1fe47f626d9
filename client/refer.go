package client

import (
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// What these methods queue refers to the message at seq in conv. It is sent like a message,
// offline too, and displayed at once: Views show the message as it will be. If the server
// refuses it, Sending.Wait says why, it leaves the outbox, and the message is displayed as
// before. Errors: those of Send.

// Edit queues that the message has another payload. Only the sender of the message can edit it,
// and the server may allow that for a time only.
func (c *Client) Edit(ctx context.Context, conv pim.ConversationID, seq pim.Seq, payload []byte) (*Sending, error) {
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryEdit, Refers: seq, Payload: slices.Clone(payload)})
}

// Recall queues that the message is taken back, by its sender or by the owner of the group.
// Its payload leaves the server and all devices.
func (c *Client) Recall(ctx context.Context, conv pim.ConversationID, seq pim.Seq) (*Sending, error) {
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryRecall, Refers: seq})
}

// React queues that the user reacts to the message with text, mostly an emoji
// (pim.ValidateReaction); or takes that reaction back, if on is false.
func (c *Client) React(ctx context.Context, conv pim.ConversationID, seq pim.Seq, text string, on bool) (*Sending, error) {
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryReaction, Refers: seq, Reaction: text, Removed: !on})
}

// PinMessage queues that the message is pinned for all, or no longer.
func (c *Client) PinMessage(ctx context.Context, conv pim.ConversationID, seq pim.Seq, on bool) (*Sending, error) {
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryPin, Refers: seq, Removed: !on})
}

// Erase queues that everything that the user has written in conv up to the seq upTo is erased: on
// the server before it answers, and on devices when they hear of it. It cannot be undone. With 0,
// upTo is the newest seq that the device has heard of; KindNotFound if that is none. The server answers
// KindNotFound if there is nothing to erase. A user who has left a group may erase there; then Sent.Seq
// is 0, because the entry stands where the user may not read.
func (c *Client) Erase(ctx context.Context, conv pim.ConversationID, upTo pim.Seq) (*Sending, error) {
	if upTo == 0 {
		row, err := c.store.Conversation(ctx, conv)
		if err != nil {
			return nil, err
		}
		if upTo = row.Newest; upTo == 0 {
			return nil, pim.Errorf(pim.KindNotFound, "the device knows of no entry of %s", conv)
		}
	}
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryErase, Refers: upTo})
}

// Retain queues that the messages of conv are kept for age, at least pim.DedupWindow, and no longer:
// what is older is removed from the server and from all devices. 0: for as long as the
// server keeps messages; it does so for no longer in any case. The owner of a group says so, and
// either user of a direct conversation. An entry of kind pim.EntryRetain tells all members. A
// shorter time than what holds begins after the server's notice, a day if it is not set otherwise:
// Retention says when. Until then it can be taken back, and nothing is lost.
func (c *Client) Retain(ctx context.Context, conv pim.ConversationID, age time.Duration) (*Sending, error) {
	if age != 0 && age < pim.DedupWindow {
		return nil, pim.Errorf(pim.KindInvalid, "messages are kept for at least %d days", pim.DedupWindow/(24*time.Hour))
	}
	return c.refer(ctx, Outgoing{Conversation: conv, Kind: pim.EntryRetain, Retain: pim.Millis(age.Milliseconds())})
}

// Retention is for how long a conversation keeps its messages, as the server tells it. 0 as a time
// is for ever.
type Retention struct {
	// InForce is the time that holds: the shorter one of what the conversation says and Server.
	InForce time.Duration
	// Next is the time that holds from From on: somebody has said a shorter one, which waits so that
	// others can say otherwise before messages are removed. If From is zero, nothing waits.
	Next time.Duration
	From time.Time
	// Said is what the last retain of the conversation says, and Server for how long the server keeps
	// messages at most.
	Said, Server time.Duration
}

// retentionOf returns what p says, an answer to an Ask for Changes.
func retentionOf(p *engine.Page) Retention {
	said, within := p.Retention, p.Retention.Within(p.ServerRetain)
	r := Retention{Said: duration(said.Age), Server: duration(p.ServerRetain), InForce: duration(within.Age)}
	if said.From != 0 {
		r.InForce = duration(within.Before)
		if within.Before != within.Age { // else the server has removed already what the conversation will
			r.Next, r.From = duration(within.Age), said.From.Time()
		}
	}
	return r
}

func duration(m pim.Millis) time.Duration { return time.Duration(m) * time.Millisecond }

// Retention asks the server for how long conv keeps its messages. It waits for a connection as long
// as ctx allows.
func (c *Client) Retention(ctx context.Context, conv pim.ConversationID) (Retention, error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input {
		return engine.Ask{ID: id, Conversation: conv, From: 1, To: 1, Limit: 1, Changes: true}
	})
	if err != nil {
		return Retention{}, err
	}
	return retentionOf(&p.Page), nil
}

func (c *Client) refer(ctx context.Context, m Outgoing) (*Sending, error) {
	if err := m.Conversation.Validate(); err != nil {
		return nil, err
	}
	return c.send(ctx, m)
}

// Edit queues that the message at seq has another payload, see Client.Edit.
func (c *Conversation) Edit(ctx context.Context, seq pim.Seq, payload []byte) (*Sending, error) {
	return c.client.Edit(ctx, c.id, seq, payload)
}

// Recall queues that the message at seq is taken back, see Client.Recall.
func (c *Conversation) Recall(ctx context.Context, seq pim.Seq) (*Sending, error) {
	return c.client.Recall(ctx, c.id, seq)
}

// React queues a reaction to the message at seq, or its end, see Client.React.
func (c *Conversation) React(ctx context.Context, seq pim.Seq, text string, on bool) (*Sending, error) {
	return c.client.React(ctx, c.id, seq, text, on)
}

// PinMessage queues that the message at seq is pinned for all, or no longer.
func (c *Conversation) PinMessage(ctx context.Context, seq pim.Seq, on bool) (*Sending, error) {
	return c.client.PinMessage(ctx, c.id, seq, on)
}

// Erase queues that what the user has written up to the seq upTo is erased, see Client.Erase.
func (c *Conversation) Erase(ctx context.Context, upTo pim.Seq) (*Sending, error) {
	return c.client.Erase(ctx, c.id, upTo)
}

// Retain queues for how long the messages are kept, see Client.Retain.
func (c *Conversation) Retain(ctx context.Context, age time.Duration) (*Sending, error) {
	return c.client.Retain(ctx, c.id, age)
}

// Retention asks for how long the messages are kept, see Client.Retention.
func (c *Conversation) Retention(ctx context.Context) (Retention, error) {
	return c.client.Retention(ctx, c.id)
}

// Reactions are those of all users with one text.
type Reactions struct {
	Text  string
	Users []pim.UserID // ascending
	Mine  bool         // one of them is the user of this device
}

// Edited reports whether the message was edited.
func (m *Message) Edited() bool { return m.Fold.Edit.Seq != 0 }

// Recalled reports whether the message was recalled: nothing of it is displayed. Fold.Recall
// says by whom.
func (m *Message) Recalled() bool { return m.Fold.Recalled() }

// Pinned reports whether the message is pinned for all.
func (m *Message) Pinned() bool { return m.Fold.Pinned() }

// Erased reports whether nothing is left of what the message said: it was recalled, or its sender
// has erased it.
func (m *Message) Erased() bool { return m.Entry.Erased && !m.Edited() }

// Payload returns the payload that is displayed: that of the last edit, if there was one; nil if
// the message was recalled or erased.
func (m *Message) Payload() []byte {
	if m.Edited() { // and not recalled
		return m.Fold.Edit.Payload
	}
	return m.Entry.Payload
}

// Reactions returns the reactions to the message, ascending by text.
func (m *Message) Reactions() (all []Reactions) {
	for _, r := range m.Fold.InForce() {
		if n := len(all); n == 0 || all[n-1].Text != r.Text {
			all = append(all, Reactions{Text: r.Text})
		}
		last := &all[len(all)-1]
		last.Users = append(last.Users, r.User)
		last.Mine = last.Mine || r.User == m.user
	}
	return all
}

// pendingSeq is above the seq of every entry: what this device has sent and the server has not
// answered is displayed as if it were the last.
const pendingSeq = endSeq

// refers reports whether e is part of another message's display, and no line of its own.
func refers(kind pim.EntryKind) bool { return kind >= pim.EntryEdit && kind <= pim.EntryPin }

// withPending returns f, the stored fold of the message at seq, with what the outbox says of it.
func (t *timeline) withPending(seq pim.Seq, f pim.Fold) pim.Fold {
	f.Target = seq
	for i := range t.pending {
		p := &t.pending[i]
		if p.Refers != seq || p.State == Failed {
			continue
		}
		part, ok := pim.FoldOf(&pim.Entry{
			Seq: pendingSeq + pim.Seq(p.Number), Kind: p.Kind, Sender: t.user, Local: p.Local, Server: p.Queued,
			Payload: p.Payload, Refers: p.Refers, Reaction: p.Reaction, Removed: p.Removed,
		})
		if ok {
			f.Merge(&part)
		}
	}
	return f
}

// fold puts the folds of a stretch of messages in place of what is held of them.
func (t *timeline) fold(folds []pim.Fold) {
	if t.folds == nil {
		t.folds = make(map[pim.Seq]pim.Fold)
	}
	for _, f := range folds {
		t.folds[f.Target] = f
	}
}

// foldsOf reads the folds of the messages of a page of conv.
func (c *Client) foldsOf(ctx context.Context, conv pim.ConversationID, page []pim.Entry) ([]pim.Fold, error) {
	if len(page) == 0 {
		return nil, nil
	}
	from, to := page[0].Seq, page[0].Seq
	for i := range page {
		from, to = min(from, page[i].Seq), max(to, page[i].Seq)
	}
	return c.store.Folds(ctx, conv, from, to)
}

// erase takes what x erases out of t, and reports whether anything has changed.
func (t *timeline) erase(x pim.Erasure) (changed bool) {
	for i := range t.entries {
		if e := &t.entries[i]; x.Erases(e) {
			erase(e)
			changed = true
		}
	}
	for seq, f := range t.folds {
		if x.Unfold(&f) {
			t.folds[seq] = f
			changed = true
		}
	}
	return changed
}

// showChange brings v up to date with a fold that has changed.
func (c *Client) showChange(v *View, ev ChangedEvent) {
	folds, err := c.store.Folds(context.WithoutCancel(c.ctx), v.conv, ev.Seq, ev.Seq)
	if err != nil {
		c.breakDown(err)
		return
	}
	v.take(func(t *timeline) bool {
		t.fold(folds)
		return len(folds) > 0
	})
}
