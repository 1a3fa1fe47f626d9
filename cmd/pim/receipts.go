package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/pim-im/pim"
)

type receiptsCmd struct {
	clientFlags
	target
	Seq     pim.Seq       `name:"seq" placeholder:"SEQ" help:"Who has read this message, and who has not."`
	From    pim.Seq       `name:"from" placeholder:"SEQ" help:"Of a group: the first message; without it, the last 50 entries are looked through."`
	Switch  string        `name:"switch" enum:"on,off," default:"" help:"Show others what you have read, and see what they have, or neither: on or off."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for the answer."`
	JSON    bool          `name:"json" help:"Print JSON, one object a line."`
}

// receiptsPage is how many seqs one request asks about, at most.
const receiptsPage = 50

// Run prints who has read what, or switches receipts.
func (c *receiptsCmd) Run(ctx context.Context, s streams) error {
	connect := c.connect
	if c.Switch != "" {
		connect = c.peek
	}
	ses, err := connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	stops, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session
	ctx, end := context.WithTimeoutCause(stops, c.Timeout, pim.Errorf(pim.KindTimeout, "no answer within %s", c.Timeout))
	defer end()
	if c.Switch != "" {
		if err := ses.knowsSettings(ctx, c.Timeout); err != nil {
			return err
		}
		m, err := ses.SetReceipts(ctx, c.Switch == "on")
		if err == nil {
			_, err = ses.waitFor(ctx, m, c.Timeout)
		}
		return causeOf(ctx, err)
	}
	conv, err := c.resolve(ses.user)
	if err != nil {
		return err
	}
	return causeOf(ctx, c.show(ctx, ses, conv, s))
}

// show prints who has read the message at c.Seq, or how far others have read.
func (c *receiptsCmd) show(ctx context.Context, ses *session, conv pim.ConversationID, s streams) error {
	page, err := ses.Pull(ctx, conv, 0, 0, 1, true)
	if err != nil {
		return err
	}
	_, _, direct := conv.DirectUsers()
	switch {
	case c.Seq > page.Newest:
		return pim.Errorf(pim.KindNotFound, "there is no entry #%d in %s, whose last is #%d", c.Seq, conv, page.Newest)
	case c.Seq != 0 && !direct:
		return c.readers(ctx, ses, conv, s.out)
	case page.Newest == 0:
		return nil
	case direct:
		return c.direct(ctx, ses, conv, page.Newest, s.out)
	}
	return c.group(ctx, ses, conv, page.Newest, s)
}

// direct prints how far the other user has got and read conv, or whether that reaches c.Seq.
func (c *receiptsCmd) direct(ctx context.Context, ses *session, conv pim.ConversationID, newest pim.Seq, w io.Writer) error {
	r, err := ses.Receipts(ctx, conv, newest, newest)
	switch {
	case err != nil:
		return err
	case c.Seq == 0:
		return c.print(w, directReceipt{r.Delivered, r.Read, r.ReadAt}, "delivered: %s\nread: %s", upTo(r.Delivered, 0), upTo(r.Read, r.ReadAt))
	}
	a, other, _ := conv.DirectUsers()
	if other == ses.user {
		other = a
	}
	switch {
	case c.Seq <= r.Read:
		return c.printReader(w, readerJSON{other, true, r.ReadAt})
	case c.Seq <= r.Delivered && !c.JSON:
		return c.print(w, nil, "%s has not read it; it is delivered", other)
	}
	return c.printReader(w, readerJSON{User: other})
}

// group prints how many have read each message from c.From on, or of the last ones.
func (c *receiptsCmd) group(ctx context.Context, ses *session, conv pim.ConversationID, newest pim.Seq, s streams) error {
	from := c.From
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
		for _, m := range r.Messages {
			if err := c.print(s.out, groupReceipt(m), "#%d: read by %d of %d", m.Seq, m.Read, m.Members); err != nil {
				return err
			}
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
		page, next, err := ses.Readers(ctx, conv, c.Seq, after)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := c.printReader(w, readerJSON{r.User, r.Read, r.At}); err != nil {
				return err
			}
		}
		if after = next; next == "" {
			return nil
		}
	}
}

func (c *receiptsCmd) printReader(w io.Writer, r readerJSON) error {
	what := "has not read it"
	switch {
	case r.Read && r.ReadMS == 0:
		what = "has read it"
	case r.Read:
		what = "has read it by " + r.ReadMS.Time().Local().Format(time.DateTime)
	}
	return c.print(w, r, "%s %s", r.User, what)
}

func (c *receiptsCmd) print(w io.Writer, v any, format string, args ...any) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(v)
	}
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
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
	Read   bool       `json:"read"`
	ReadMS pim.Millis `json:"read_ms,omitempty"`
}
