package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type tailCmd struct {
	waitFlags
	target
	From   seqArg `name:"from" default:"1" placeholder:"SEQ" help:"First entry to print."`
	Follow bool   `name:"follow" default:"true" negatable:"" help:"Go on with new entries as they come."`
	JSON   bool   `name:"json" help:"Print one JSON object an entry."`

	excerpts excerpts
}

// Run prints entries in the order of their seqs, each once.
func (c *tailCmd) Run(ctx context.Context, s streams) error {
	if c.Follow {
		return c.follow(ctx, s)
	}
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return err
		}
		c.excerpts.pull = func(ctx context.Context, seq pim.Seq) (client.Page, error) {
			return ses.Pull(ctx, conv, seq, seq, 1, false)
		}
		return c.upToNow(ctx, ses, conv, pim.Seq(c.From), s)
	})
}

// follow prints entries, and goes on with those that come.
func (c *tailCmd) follow(ctx context.Context, s streams) error {
	ses, err := c.reach(ctx, c.connect)
	if err != nil {
		return err
	}
	defer ses.Close()
	conv, err := c.resolve(ses.user)
	if err != nil {
		return err
	}
	from := pim.Seq(c.From)
	aside := asker{flags: c.clientFlags}
	defer aside.close()
	c.excerpts.pull = func(ctx context.Context, seq pim.Seq) (client.Page, error) { return aside.pull(ctx, conv, seq) }
	if from > 1 {
		page, err := ses.pullFirst(ctx, conv, 0, 0, 1, true)
		if err != nil {
			return err
		}
		if end := page.Newest; from > end+1 { // to the SDK it would look as if the server had lost entries
			fmt.Fprintf(s.err, "%s ends at #%d; what comes is shown\n", conv, end)
			from = end + 1
		}
	}
	if err := ses.Watch(ctx, conv, from-1); err != nil {
		return err
	}
	return ses.follow(ctx, s.err, func(e client.Event) error { return c.handle(ctx, e, conv, s) })
}

// handle prints what an event tells of conv.
func (c *tailCmd) handle(ctx context.Context, e client.Event, conv pim.ConversationID, s streams) error {
	switch e := e.(type) {
	case client.EntryEvent:
		if e.Entry.Conversation == conv {
			return c.print(ctx, s.out, &e.Entry)
		}
	case client.RewoundEvent:
		if e.Conversation == conv {
			c.excerpts.forget()
			_, err := fmt.Fprintln(s.err, rewoundLine(e))
			return err
		}
	case client.TrimmedEvent:
		if e.Conversation == conv {
			_, err := fmt.Fprintln(s.err, trimmedLine(e))
			return err
		}
	case client.RefusedEvent:
		return e.Err
	}
	return nil
}

// tailPage is how many entries are asked for at a time.
const tailPage = 500

// upToNow prints what the log holds now. It reads the log's last seq first: otherwise
// entries that come meanwhile could keep the command from ending.
func (c *tailCmd) upToNow(ctx context.Context, ses *session, conv pim.ConversationID, from pim.Seq, s streams) error {
	page, err := ses.Pull(ctx, conv, 0, 0, 1, true)
	if err != nil {
		return err
	}
	if from > page.Newest {
		fmt.Fprintf(s.err, "%s ends at #%d\n", conv, page.Newest)
	}
	for end := page.Newest; from <= end; from = page.To + 1 {
		if page, err = ses.Pull(ctx, conv, from, end, tailPage, false); err != nil {
			return err
		}
		err := ses.printing(func() (err error) {
			for i := 0; i < len(page.Entries) && err == nil; i++ {
				err = c.print(ctx, s.out, &page.Entries[i])
			}
			return err
		})
		if err != nil {
			return err
		}
		if page.To < from {
			return pim.Errorf(pim.KindInternal, "the server answers a pull from %d with nothing; the log should reach to %d", from, end)
		}
	}
	return nil
}

func (c *tailCmd) print(ctx context.Context, w io.Writer, e *pim.Entry) error {
	shown, err := c.excerpts.show(ctx, e)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(w).Encode(shown.json())
	}
	_, err = fmt.Fprintf(w, "%6d  %s  %s\n", e.Seq, e.Time().Time().Local().Format("2006-01-02 15:04:05"), chat.Line(e)+shown.refersTo())
	return err
}
