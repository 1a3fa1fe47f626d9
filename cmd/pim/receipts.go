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
	Seq     pim.Seq       `name:"seq" placeholder:"SEQ" help:"Of a group: who has read this message, and who has not."`
	Switch  string        `name:"switch" enum:"on,off," default:"" help:"Show others what you have read, and see what they have, or neither: on or off."`
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for the answer."`
	JSON    bool          `name:"json" help:"Print JSON, one object a line."`
}

// receiptsScreen is how many seqs the command asks about: the newest ones.
const receiptsScreen = 50

// Run prints who has read what, or switches receipts.
func (c *receiptsCmd) Run(ctx context.Context, s streams) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	o.Watch, o.Device = c.Switch == "", newDevice()
	if c.Device != "" {
		o.Device = c.Device
	}
	ses, err := c.open(ctx, o)
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
	if err == nil && c.Seq != 0 {
		err = c.readers(ctx, ses, conv, s.out)
	} else if err == nil {
		err = c.newest(ctx, ses, conv, s.out)
	}
	return causeOf(ctx, err)
}

// newest prints how far others have read the newest messages.
func (c *receiptsCmd) newest(ctx context.Context, ses *session, conv pim.ConversationID, w io.Writer) error {
	page, err := ses.Pull(ctx, conv, 0, 0, 1, true)
	if err != nil || page.Newest == 0 {
		return err
	}
	r, err := ses.Receipts(ctx, conv, page.Newest-min(page.Newest, receiptsScreen)+1, page.Newest)
	if err != nil {
		return err
	}
	if _, _, direct := conv.DirectUsers(); direct {
		return c.print(w, directReceipt{r.Delivered, r.Read, r.ReadAt}, "delivered: %s\nread: %s", upTo(r.Delivered, 0), upTo(r.Read, r.ReadAt))
	}
	for _, m := range r.Messages {
		if err := c.print(w, groupReceipt(m), "#%d: read by %d of %d", m.Seq, m.Read, m.Members); err != nil {
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
		page, next, err := ses.Readers(ctx, conv, c.Seq, after)
		if err != nil {
			return err
		}
		for _, r := range page {
			what := "has not read it"
			if r.Read {
				what = "has read it by " + r.At.Time().Local().Format(time.DateTime)
			}
			if err := c.print(w, readerJSON{r.User, r.Read, r.At}, "%s %s", r.User, what); err != nil {
				return err
			}
		}
		if after = next; next == "" {
			return nil
		}
	}
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
