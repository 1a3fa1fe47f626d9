package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type eraseCmd struct {
	changeFlags
	target
	UpTo   *pim.Seq `name:"up-to" placeholder:"SEQ" help:"The last seq; without it, the newest."`
	All    bool     `name:"all" help:"In every conversation that you are or were in."`
	DryRun bool     `name:"dry-run" help:"Erase nothing, and print how many messages would go."`
}

// erasedJSON is what has become of an erase, for scripts. The names are stable.
type erasedJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	UpTo         pim.Seq            `json:"up_to"`
	Messages     int                `json:"messages"` // that are gone, or would go
	*sentJSON                       // nil if nothing was erased; its seq is 0 if the user has left the group
	DryRun       bool               `json:"dry_run,omitempty"`
	Kind         string             `json:"error_kind,omitempty"`
	Error        string             `json:"error,omitempty"`
}

// String says it for people.
func (e *erasedJSON) String() string {
	switch {
	case e.Error != "":
		return fmt.Sprintf("%s: %s", e.Conversation, e.Error)
	case e.DryRun:
		return fmt.Sprintf("%s: %s would be erased, up to #%d", e.Conversation, messages(e.Messages), e.UpTo)
	case e.sentJSON == nil:
		return fmt.Sprintf("%s: nothing to erase", e.Conversation)
	}
	return fmt.Sprintf("%s: %s erased, up to #%d", e.Conversation, messages(e.Messages), e.UpTo)
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// Run erases what the user has written.
func (c *eraseCmd) Run(ctx context.Context, s streams) error {
	switch {
	case c.UpTo != nil && *c.UpTo == 0:
		return pim.Errorf(pim.KindInvalid, "--up-to 0: the first message is 1")
	case c.All && (c.To != "" || c.Conversation != "" || c.UpTo != nil):
		return pim.Errorf(pim.KindInvalid, "--all goes with no conversation and no --up-to")
	}
	connect := c.connect
	if c.All {
		connect = c.peek // for the list
	}
	ses, err := connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session
	conversations, err := c.conversations(ctx, ses)
	if err != nil {
		return causeOf(ctx, err)
	}
	failed, first := 0, error(nil)
	for _, conv := range conversations {
		done, err := c.erase(ctx, ses, conv)
		switch {
		case err != nil && (!c.All || ctx.Err() != nil):
			return causeOf(ctx, err)
		case err != nil:
			failed, first = failed+1, cmp.Or(first, err)
			done.Kind, done.Error = pim.KindOf(err).String(), chat.Plain(err)
		}
		if c.JSON {
			err = json.NewEncoder(s.out).Encode(done)
		} else {
			_, err = fmt.Fprintln(s.out, &done)
		}
		if err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d conversations are not erased: %w", failed, len(conversations), first)
	}
	return nil
}

// conversations returns where the user wants to erase.
func (c *eraseCmd) conversations(ctx context.Context, ses *session) (all []pim.ConversationID, err error) {
	if !c.All {
		conv, err := c.resolve(ses.user)
		return []pim.ConversationID{conv}, err
	}
	if err := ses.Synced(ctx); err != nil {
		return nil, err
	}
	list, err := ses.Conversations(ctx)
	for _, info := range list {
		if _, own := info.ID.OwnUser(); !own {
			all = append(all, info.ID)
		}
	}
	return all, err
}

// erase erases in conv, and waits until that is done. It may be repeated if it fails.
func (c *eraseCmd) erase(ctx context.Context, ses *session, conv pim.ConversationID) (erasedJSON, error) {
	done := erasedJSON{Conversation: conv, DryRun: c.DryRun}
	if err := c.count(ctx, ses, &done); err != nil || c.DryRun || done.UpTo == 0 {
		return done, err
	}
	m, err := ses.Erase(ctx, conv, done.UpTo)
	if err != nil {
		return done, err
	}
	sent, err := ses.waitFor(ctx, m, c.Timeout)
	switch {
	case pim.KindOf(err) == pim.KindNotFound: // what there was is gone
		done.Messages = 0
		return done, nil
	case err != nil:
		return done, err
	}
	stored := sentOf(m.ID(), sent)
	done.sentJSON = &stored
	return done, nil
}

// count finds out up to where to erase, and how many messages of the user are left up to there.
func (c *eraseCmd) count(ctx context.Context, ses *session, done *erasedJSON) error {
	for from := pim.Seq(1); ; {
		page, err := ses.Pull(ctx, done.Conversation, from, done.UpTo, pim.MaxPageEntries, false)
		if err != nil {
			return err
		}
		if from == 1 {
			if done.UpTo = page.Newest; c.UpTo != nil {
				done.UpTo = *c.UpTo
			}
			if done.UpTo > page.Newest {
				return pim.Errorf(pim.KindNotFound, "%s ends at seq %d", done.Conversation, page.Newest)
			}
		}
		for i := range page.Entries {
			if e := &page.Entries[i]; e.Seq <= done.UpTo && e.Sender == ses.user && e.Kind == pim.EntryMessage && !e.Erased {
				done.Messages++
			}
		}
		if page.From > page.To || page.To >= done.UpTo {
			return nil
		}
		from = page.To + 1
	}
}
