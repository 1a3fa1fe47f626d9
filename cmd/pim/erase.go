package main

import (
	"context"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type eraseCmd struct {
	changeFlags
	target
	UpTo *pim.Seq `name:"up-to" placeholder:"SEQ" help:"The last seq; without it, the newest."`
	All  bool     `name:"all" help:"In every conversation that you are in."`
}

// Run erases what the user has written.
func (c *eraseCmd) Run(ctx context.Context, s streams) error {
	if c.UpTo != nil && *c.UpTo == 0 {
		return pim.Errorf(pim.KindInvalid, "--up-to 0: the first message is 1")
	}
	if c.All {
		return c.eraseAll(ctx, s)
	}
	return c.change(ctx, s, c.connect, func(ses *session) (*client.Sending, error) {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		return c.erase(ctx, ses, conv)
	}, storedAt)
}

// erase queues the erase of conv.
func (c *eraseCmd) erase(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
	if c.UpTo != nil {
		return ses.Erase(ctx, conv, *c.UpTo)
	}
	page, err := ses.Pull(ctx, conv, 0, 0, 1, true)
	if err != nil {
		return nil, err
	}
	return ses.Erase(ctx, conv, page.Newest)
}

// eraseAll erases in every conversation of the user's list, one after the other. It may be
// repeated if it fails.
func (c *eraseCmd) eraseAll(ctx context.Context, s streams) error {
	if c.To != "" || c.Conversation != "" || c.UpTo != nil || c.JSON {
		return pim.Errorf(pim.KindInvalid, "--all goes with no conversation, no --up-to and no --json")
	}
	ses, err := c.peek(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session
	if err := ses.Synced(ctx); err != nil {
		return causeOf(ctx, err)
	}
	list, err := ses.Conversations(ctx)
	if err != nil {
		return causeOf(ctx, err)
	}
	left := 0
	for _, info := range list {
		if _, own := info.ID.OwnUser(); own {
			continue
		}
		if info.Left {
			fmt.Fprintf(s.err, "%s: you have left it, nothing is erased\n", info.ID)
			left++
			continue
		}
		m, err := c.erase(ctx, ses, info.ID)
		if err != nil {
			return causeOf(ctx, err)
		}
		sent, err := ses.waitFor(ctx, m, c.Timeout)
		line := storedAt(sent)
		switch {
		case pim.KindOf(err) == pim.KindNotFound: // what there was is gone
			line = fmt.Sprintf("%s: nothing to erase", info.ID)
		case err != nil:
			return causeOf(ctx, err)
		}
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	if left > 0 {
		return pim.Errorf(pim.KindNotMember, "conversations that you have left keep what you wrote: %d", left)
	}
	return nil
}
