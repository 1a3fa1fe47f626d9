package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type receiptsCmd struct {
	changeFlags
	target
	Seq    seqArg `name:"seq" placeholder:"SEQ" help:"Who has read this message, and who has not."`
	From   seqArg `name:"from" placeholder:"SEQ" help:"Of a group: the first message; without it, the last 50 entries are looked through."`
	Switch string `name:"switch" enum:"on,off," default:"" placeholder:"on|off" help:"Show others what you have read, and see what they have, or neither: on or off."`
}

// receiptsPage is how many seqs one request asks about, at most.
const receiptsPage = 50

// Run prints who has read what, or switches receipts.
func (c *receiptsCmd) Run(ctx context.Context, s streams) error {
	if c.Switch != "" {
		if c.target != (target{}) || c.Seq != 0 || c.From != 0 {
			return errSwitchAll
		}
		return c.set(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
			return ses.SetReceipts(ctx, c.Switch == "on")
		})
	}
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return err
		}
		return c.show(ctx, ses, conv, s)
	})
}

// show prints who has read the message at c.Seq, or how far others have read.
func (c *receiptsCmd) show(ctx context.Context, ses *session, conv pim.ConversationID, s streams) error {
	seq := pim.Seq(c.Seq)
	page, err := ses.Pull(ctx, conv, seq, seq, 1, true)
	_, _, direct := conv.DirectUsers()
	switch {
	case err != nil:
		return err
	case direct && c.From != 0:
		return pim.Errorf(pim.KindInvalid, "--from is for groups; in a direct conversation --seq asks about one message")
	case seq == 0 && direct:
		return c.direct(ctx, ses, conv, page.Newest, s.out)
	case seq == 0:
		return c.group(ctx, ses, conv, page.Newest, s)
	case seq > page.Newest:
		return noEntry(conv, seq, page.Newest)
	case direct && (len(page.Entries) == 0 || page.Entries[0].Kind != pim.EntryMessage):
		return pim.Errorf(pim.KindNotFound, "%s has no message at seq %d", conv, seq)
	case direct:
		return c.reader(ctx, ses, &page.Entries[0], s.out)
	}
	return c.readers(ctx, ses, conv, s.out)
}

// direct prints how far the other user has got and read conv.
func (c *receiptsCmd) direct(ctx context.Context, ses *session, conv pim.ConversationID, newest pim.Seq, w io.Writer) (err error) {
	var r client.Receipts
	if newest != 0 {
		if r, err = ses.Receipts(ctx, conv, newest, newest); err != nil {
			return err
		}
	}
	return c.print(w, directReceipt{r.Delivered, r.Read, r.ReadAt}, "delivered: %s\nread: %s", upTo(r.Delivered, 0), upTo(r.Read, r.ReadAt))
}

// reader prints whether the other user has read the message e of a direct conversation.
func (c *receiptsCmd) reader(ctx context.Context, ses *session, e *pim.Entry, w io.Writer) error {
	a, other, _ := e.Conversation.DirectUsers()
	if other == ses.user {
		other = a
	}
	if e.Sender == other && other != ses.user {
		return pim.Errorf(pim.KindNotFound, "#%d of %s is by %s: receipts say who else has read it, and that is only you", e.Seq, e.Conversation, other)
	}
	r, err := ses.Receipts(ctx, e.Conversation, e.Seq, e.Seq)
	if err != nil {
		return err
	}
	yes, no, state := true, false, ""
	if e.Seq <= r.Delivered {
		state = "; it is delivered"
	}
	switch {
	case e.Seq <= r.Read:
		return c.printReader(w, readerJSON{other, &yes, r.ReadAt}, "")
	case r.Read > 0: // the other one tells what they read
		return c.printReader(w, readerJSON{other, &no, 0}, state)
	}
	// Nobody is told whether the other one has read nothing at all, or does not tell.
	return c.printReader(w, readerJSON{User: other}, state)
}

// group prints how many have read each message from c.From on, or of the last ones.
func (c *receiptsCmd) group(ctx context.Context, ses *session, conv pim.ConversationID, newest pim.Seq, s streams) error {
	from := pim.Seq(c.From)
	if from == 0 {
		from = newest - min(newest, receiptsPage) + 1
		if from > 1 && !c.JSON {
			fmt.Fprintf(s.err, "#%d to #%d; --from SEQ begins with an earlier one\n", from, newest)
		}
	}
	for ; from <= newest; from += receiptsPage {
		r, err := ses.Receipts(ctx, conv, from, min(newest, from+receiptsPage-1))
		if err != nil {
			return err
		}
		err = ses.printing(func() (err error) {
			for i := 0; i < len(r.Messages) && err == nil; i++ {
				m := &r.Messages[i]
				err = c.print(s.out, groupReceipt(*m), "#%d: read by %d of %d", m.Seq, m.Read, m.Members)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// upTo says how far the other has come, and when, as far as that is known. Nobody is told whether the
// other has not come far, or does not tell.
func upTo(seq pim.Seq, at pim.Millis) string {
	switch {
	case seq == 0:
		return "not known"
	case at == 0:
		return fmt.Sprintf("#%d", seq)
	}
	return fmt.Sprintf("#%d at %s", seq, at.Time().Local().Format(time.DateTime))
}

// readers prints who has read the message at c.Seq, and who has not.
func (c *receiptsCmd) readers(ctx context.Context, ses *session, conv pim.ConversationID, w io.Writer) error {
	for after := pim.UserID(""); ; {
		page, next, err := ses.Readers(ctx, conv, pim.Seq(c.Seq), after)
		if err != nil {
			return err
		}
		err = ses.printing(func() (err error) {
			for i := 0; i < len(page) && err == nil; i++ {
				err = c.printReader(w, readerJSON{page[i].User, &page[i].Read, page[i].At}, "")
			}
			return err
		})
		if err != nil {
			return err
		}
		if after = next; next == "" {
			return nil
		}
	}
}

// printReader prints a reader; for people with more behind it.
func (c *receiptsCmd) printReader(w io.Writer, r readerJSON, more string) error {
	what := "has not read it"
	switch {
	case r.Read == nil:
		what = "has not read it, or does not tell"
	case *r.Read && r.ReadMS == 0:
		what = "has read it"
	case *r.Read: // the time is that of the newest that was read
		what = "has read it by " + r.ReadMS.Time().Local().Format(time.DateTime)
	}
	return c.print(w, r, "%s %s%s", chat.Printable(string(r.User)), what, more)
}

type directReceipt struct {
	Delivered pim.Seq    `json:"delivered"`
	Read      pim.Seq    `json:"read"`
	ReadMS    pim.Millis `json:"read_ms,omitempty"`
}

type groupReceipt struct {
	Seq     pim.Seq `json:"seq"`
	Read    int     `json:"read"`
	Members int     `json:"members"`
}

type readerJSON struct {
	User   pim.UserID `json:"user"`
	Read   *bool      `json:"read,omitempty"` // nil: not known
	ReadMS pim.Millis `json:"read_ms,omitempty"`
}
