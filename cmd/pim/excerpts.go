package main

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/content"
)

const (
	// answeredKept is how many messages excerpts remembers at least, if so many were met.
	answeredKept = 16384
	// answeredWithin is how long excerpts waits for the server. If no answer has come, it does not ask
	// for as long again, so a page of replies does not wait for each of them.
	answeredWithin = 10 * time.Second
)

// excerpts takes the excerpts of messages that are gone out of the replies to them: what a reply
// says of another message stays in it when that message is recalled or erased. It shows an excerpt
// only if the answered message is there. It must be told of every entry that is printed, in order.
type excerpts struct {
	pull func(ctx context.Context, seq pim.Seq) (client.Page, error) // of one entry
	// met holds the messages that were printed or pulled. When it is full it becomes before, which
	// is forgotten. So memory is bounded, and what is answered often stays.
	met, before map[pim.Seq]answered
	silentUntil time.Time // until then the server is not asked
}

// answered is what is known of a message that is or may be answered.
type answered struct {
	sender pim.UserID // empty: the user can read no message at this seq
	erased bool
}

// shownEntry is an entry as it is shown.
type shownEntry struct {
	*pim.Entry
	erased bool // it answers a message that was recalled or erased
}

// show notes e and returns it as it is to be shown. An error is that of ctx.
func (x *excerpts) show(ctx context.Context, e *pim.Entry) (shownEntry, error) {
	x.note(e)
	if e.Kind != pim.EntryMessage && e.Kind != pim.EntryEdit || !content.IsEnvelope(e.Payload) {
		return shownEntry{Entry: e}, nil
	}
	c, err := content.Parse(e.Payload)
	if err != nil || c.Reply == nil {
		return shownEntry{Entry: e}, nil // a payload that cannot be read has no excerpt that is shown
	}
	to, err := x.at(ctx, c.Reply.Seq, e.Seq)
	if err != nil || to.sender != "" && !to.erased {
		return shownEntry{Entry: e}, err
	}
	c.Reply.Excerpt = ""
	bare := *e
	if bare.Payload, err = c.Encode(); err != nil {
		return shownEntry{}, err // Parse has read it, so it can be written
	}
	return shownEntry{&bare, to.erased}, nil
}

// note notes what e, an entry of the log, is or does to others.
func (x *excerpts) note(e *pim.Entry) {
	switch e.Kind {
	case pim.EntryMessage:
		x.keep(e.Seq, answered{e.Sender, e.Erased})
	case pim.EntryRecall:
		for _, known := range []map[pim.Seq]answered{x.met, x.before} {
			if a, ok := known[e.Refers]; ok {
				known[e.Refers] = answered{a.sender, true}
			}
		}
	case pim.EntryErase:
		erasure, _ := pim.ErasureOf(e)
		for _, known := range []map[pim.Seq]answered{x.met, x.before} {
			for seq, a := range known {
				if erasure.Covers(a.sender, seq) {
					known[seq] = answered{a.sender, true}
				}
			}
		}
	}
}

// keep remembers a message.
func (x *excerpts) keep(seq pim.Seq, a answered) {
	if len(x.met) >= answeredKept || x.met == nil {
		x.met, x.before = make(map[pim.Seq]answered), x.met
	}
	x.met[seq] = a
}

// forget forgets all messages: the server gives their seqs to others.
func (x *excerpts) forget() { x.met, x.before = nil, nil }

// at returns the message at seq, which the message at by answers. If the server does not tell, it
// returns one that cannot be read. An error is that of ctx.
func (x *excerpts) at(ctx context.Context, seq, by pim.Seq) (answered, error) {
	a, ok := x.met[seq]
	if ok || seq >= by { // who answers a message has read it
		return a, nil
	}
	if a, ok = x.before[seq]; !ok {
		if time.Now().Before(x.silentUntil) {
			return a, nil
		}
		limited, cancel := context.WithTimeout(ctx, answeredWithin)
		defer cancel()
		page, err := x.pull(limited, seq)
		switch {
		case ctx.Err() != nil:
			return a, ctx.Err()
		case limited.Err() != nil:
			x.silentUntil = time.Now().Add(answeredWithin)
			return a, nil
		case err != nil:
			return a, nil
		}
		if len(page.Entries) > 0 && page.Entries[0].Kind == pim.EntryMessage {
			a = answered{page.Entries[0].Sender, page.Entries[0].Erased}
		}
	}
	x.keep(seq, a)
	return a, nil
}

// refersTo says what a message answers, or where it was before; "" for all others.
func (e shownEntry) refersTo() string {
	about := chat.About(e.Entry)
	switch {
	case about == "":
		return ""
	case e.erased:
		about += ": (erased)"
	}
	return "  (" + about + ")"
}

func (e shownEntry) json() entryJSON {
	j := jsonOf(e.Entry)
	if j.Reply != nil {
		j.Reply.Erased = e.erased
	}
	return j
}

// asker pulls beside a session whose events the caller reads: a session with many waiting events
// reads no answers, so the caller must not wait for one.
type asker struct {
	flags clientFlags
	ses   *session // opened when it is needed first
}

func (a *asker) pull(ctx context.Context, conv pim.ConversationID, seq pim.Seq) (client.Page, error) {
	if a.ses == nil {
		flags := a.flags
		flags.Device = "" // that one is connected
		ses, err := flags.connect(ctx)
		if err != nil {
			return client.Page{}, err
		}
		go ses.stopped() // reads the events until the session ends
		a.ses = ses
	}
	return a.ses.Pull(ctx, conv, seq, seq, 1, false)
}

func (a *asker) close() {
	if a.ses != nil {
		a.ses.Close()
	}
}
