package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// feedPage is how many entries are read ahead of an app that confirms them.
const feedPage = 100

// feed hands every entry to an app that confirms entries (Options.Confirm), in the
// order in which they were stored. While the app keeps up, an entry goes straight to the
// app. Otherwise the entry is read from the store later, so a slow app neither fills the
// memory nor keeps the network unread. The loop owns the feed.
type feed struct {
	on     bool
	queue  []EntryEvent // the next entries, at most feedPage
	read   uint64       // entries up to this number are in queue, or were handed over
	handed uint64       // entries up to this number were handed over
	stored uint64       // the number of the last entry in the store
}

// begin starts after the last entry that the app has confirmed.
func (f *feed) begin(meta Meta) {
	f.on, f.stored = true, meta.Stored
	f.read = meta.Confirmed
	if !meta.Confirms { // the app begins to confirm, with the next entry that is stored
		f.read = meta.Stored
	}
	f.handed = f.read
}

// take takes an entry that was just stored.
func (f *feed) take(ev EntryEvent) {
	if f.read == f.stored && len(f.queue) < feedPage {
		f.queue, f.read = append(f.queue, ev), ev.Number
	}
	f.stored = ev.Number
}

// behind reports whether the queue is empty while the store has entries above read.
func (f *feed) behind() bool { return f.on && len(f.queue) == 0 && f.read < f.stored }

// fill fills the queue from a page of the store.
func (f *feed) fill(page []Stored) {
	for i := range page {
		f.queue = append(f.queue, EntryEvent{Entry: page[i].Entry, Late: page[i].Late, Number: page[i].Number})
		f.read = page[i].Number
	}
	if len(page) < feedPage { // that was all
		f.read = f.stored
	}
}

// next takes the first entry out of the queue: it was handed over.
func (f *feed) next() {
	f.handed = f.queue[0].Number
	f.queue[0] = EntryEvent{}
	if f.queue = f.queue[1:]; len(f.queue) == 0 {
		f.queue = nil
	}
}

// readAhead fills the feed's queue from the store, if the feed is behind.
func (c *Client) readAhead() {
	f := &c.loop.feed
	if !f.behind() || c.loop.broken != nil {
		return
	}
	page, err := c.store.Since(c.ctx, f.read, feedPage)
	switch {
	case c.ctx.Err() != nil: // the client is being closed
	case err != nil:
		c.breakDown(err)
	default:
		f.fill(page)
	}
}

// Answer is a message that an app sends because of an entry. An Answer without a Payload
// is an empty message: to send none, leave the Answer out.
type Answer struct {
	Conversation pim.ConversationID // empty: that of the entry
	Payload      []byte
	// ID is the client message ID. If it is zero, it becomes the AnswerID with a secret
	// that the Store keeps. So if the server goes back and an entry comes once more, its
	// answer has the same ID as before. With the AnswerID of a secret that the app keeps,
	// the ID is the same even after the Store was lost.
	ID pim.ClientMessageID
}

// AnswerID returns the client message ID of the n-th answer to e. The ID depends on the
// arguments alone, and has one effect within 7 days. So the answer is appended once in
// that time, even if the app has forgotten that it sent it. Whoever knows secret can use
// the IDs first, and so suppress the answers.
func AnswerID(secret []byte, e *pim.Entry, n int) pim.ClientMessageID {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s %s %d ", e.Conversation, e.Sender, n)
	mac.Write(e.ClientID[:])
	var id pim.ClientMessageID
	copy(id[:], mac.Sum(nil))
	copy(id[:], e.ClientID[:6]) // the time of e's UUIDv7: servers keep IDs of a distant time elsewhere
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

// Confirm says that the app is done with e and with every entry that was handed over
// before e: they will not be handed over again. One call may confirm many entries.
// Confirm queues answers in the same transaction: whenever the process dies, either the
// entry was confirmed and its answers will be sent, or neither. An answer whose ID is in
// the outbox is not queued once more. For clients with Options.Confirm only.
//
// Errors: those of Send, and KindInvalid also if e was not handed over. After an error
// nothing is confirmed or queued.
func (c *Client) Confirm(ctx context.Context, e EntryEvent, answers ...Answer) ([]*Sending, error) {
	in := engine.Confirm{Number: e.Number}
	var ids []pim.ClientMessageID
	for n, a := range answers {
		out := Outgoing{Conversation: a.Conversation, Kind: pim.EntryMessage, Payload: slices.Clone(a.Payload), ID: a.ID}
		if out.Conversation == "" {
			out.Conversation = e.Entry.Conversation
		}
		if err := out.Conversation.Validate(); err != nil {
			return nil, err
		}
		if out.ID.IsZero() {
			out.ID = AnswerID(c.key[:], &e.Entry, n)
		}
		in.Answers, ids = append(in.Answers, out), append(ids, out.ID)
	}
	return c.queueAll(ctx, ids, command{call: func() error {
		if handed := c.loop.feed.handed; e.Number > handed {
			return pim.Errorf(pim.KindInvalid, "entry number %d was not handed over, the last was %d", e.Number, handed)
		}
		return c.step(in)
	}})
}

// EntriesAfter returns the entries of conv above the seq after that the local store has,
// ascending by seq, at most limit of them (0: 100, at most pim.MaxPageEntries). An empty
// list says that there are no more at present. The list ends before a stretch that is
// still being pulled, so an app may keep the last seq as its position, and call again
// after an EntryEvent of conv. Seqs that are not for the user are left out, and so is a
// gap that is left to scrolling (Options.LazyGap; not with Options.Confirm).
func (c *Client) EntriesAfter(ctx context.Context, conv pim.ConversationID, after pim.Seq, limit int) ([]pim.Entry, error) {
	switch {
	case limit < 0 || limit > pim.MaxPageEntries:
		return nil, pim.Errorf(pim.KindInvalid, "a page of %d entries, at most %d are allowed", limit, pim.MaxPageEntries)
	case limit == 0:
		limit = 100
	}
	if err := conv.Validate(); err != nil {
		return nil, err
	}
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	row, err := c.store.Conversation(ctx, conv)
	if err != nil {
		return nil, err
	}
	to := row.Known
	for _, h := range slices.Backward(row.Holes) {
		if !h.Lazy && h.To > after {
			to = h.From - 1
		}
	}
	if after >= to {
		return nil, nil
	}
	return c.store.Range(ctx, conv, after+1, to, limit)
}
