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

// feed hands every entry to an app that confirms them (Options.Confirm), in the
// order in which they were stored. While the app keeps up an entry goes straight to
// it; what it does not take at once it is read from the store later, so a slow app
// neither fills the memory nor keeps the network unread. The loop owns it.
type feed struct {
	on     bool
	queue  []EntryEvent // the next, at most feedPage
	read   uint64       // the number up to which entries are in queue, or were handed over
	handed uint64       // and up to which they were
	stored uint64       // the number of the last entry in the store
}

// begin starts behind what the app has confirmed.
func (f *feed) begin(meta Meta) {
	f.on, f.stored = true, meta.Stored
	f.read = meta.Confirmed
	if !meta.Confirms { // it begins to, with what is stored from now on
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

// behind reports whether the queue is empty, and the store is not at its end.
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

// next takes the first out of the queue: it is handed over.
func (f *feed) next() {
	f.handed = f.queue[0].Number
	f.queue[0] = EntryEvent{}
	if f.queue = f.queue[1:]; len(f.queue) == 0 {
		f.queue = nil
	}
}

// readAhead fills an empty queue.
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

// Answer is a message that an app sends because of an entry. One without a Payload is an
// empty message: to send none, leave the Answer out.
type Answer struct {
	Conversation pim.ConversationID // empty: that of the entry
	Payload      []byte
	// ID is the client message ID. Zero: AnswerID with a secret of the Store's, so
	// that the answer to an entry that comes once more, since the server went back, is
	// the same answer. With a secret of the app's it is the same even when the Store
	// was lost.
	ID pim.ClientMessageID
}

// AnswerID returns the client message ID of the n-th answer to e. It follows from the
// arguments alone, and an ID has one effect for 7 days, so an answer that was sent is
// not sent again in that time, whatever the app remembers. Whoever knows secret can
// use up the IDs before.
func AnswerID(secret []byte, e *pim.Entry, n int) pim.ClientMessageID {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s %s %d ", e.Conversation, e.Sender, n)
	mac.Write(e.ClientID[:])
	var id pim.ClientMessageID
	copy(id[:], mac.Sum(nil))
	copy(id[:], e.ClientID[:6]) // the time of a UUIDv7: servers look for old IDs in another place
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

// Confirm says that the app is done with e and with every entry that was handed
// over before it: they will not be handed over again. It may be called once for
// many. It queues answers in the same transaction: whenever the process dies, the
// entry was confirmed and its answers will be sent, or neither. An answer whose ID is
// in the outbox is in it already. For clients with Options.Confirm only.
//
// Errors: KindInvalid, of an e that was not handed over too; those of Send. Then
// nothing is confirmed, and nothing queued.
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

// EntriesAfter returns the entries of conv with the seqs after+1, after+2 … that the
// local store has, at most limit of them (0: 100, at most pim.MaxPageEntries); none:
// there are no more at present. It does not pass a stretch that is still being
// pulled, so an app may keep the last seq as its position, and call again after an
// EntryEvent of conv. Seqs that are not for the user are left out, and so is a gap
// that is left to scrolling (Options.LazyGap; with Options.Confirm there is none).
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
