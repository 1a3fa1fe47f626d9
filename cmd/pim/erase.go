package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type eraseCmd struct {
	changeFlags
	target
	UpTo   seqArg `name:"up-to" placeholder:"SEQ" help:"The last seq; without it, the newest."`
	All    bool   `name:"all" help:"In every conversation that you are or were in."`
	DryRun bool   `name:"dry-run" help:"Erase nothing, and print how many messages would go, or how many at most."`
}

// erasedJSON is what has become of an erase, for scripts. The names are stable.
type erasedJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	UpTo         pim.Seq            `json:"up_to"`
	Messages     uint64             `json:"messages"`          // that are gone, or would go
	AtMost       bool               `json:"at_most,omitempty"` // there may be fewer
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
		return fmt.Sprintf("%s: %s would be erased, up to #%d", e.Conversation, e.messages(), e.UpTo)
	case e.sentJSON == nil:
		return fmt.Sprintf("%s: nothing to erase", e.Conversation)
	}
	return fmt.Sprintf("%s: %s erased, up to #%d", e.Conversation, e.messages(), e.UpTo)
}

func (e *erasedJSON) messages() string {
	switch {
	case e.AtMost:
		return fmt.Sprintf("at most %d messages", e.Messages)
	case e.Messages == 1:
		return "1 message"
	}
	return fmt.Sprintf("%d messages", e.Messages)
}

// Run erases what the user has written.
func (c *eraseCmd) Run(ctx context.Context, s streams) error {
	if c.All && (c.target != (target{}) || c.UpTo != 0) {
		return pim.Errorf(pim.KindInvalid, "--all goes with no conversation and no --up-to")
	}
	open := c.connect
	if c.All {
		open = c.peek // for the list
	}
	return c.with(ctx, open, func(ctx context.Context, ses *session) error {
		conversations, err := c.conversations(ctx, ses)
		if err != nil {
			return err
		}
		return c.each(ctx, ses, conversations, s)
	})
}

// each erases in each of the conversations, and prints what has become of that.
func (c *eraseCmd) each(ctx context.Context, ses *session, conversations []pim.ConversationID, s streams) error {
	failed, first := 0, error(nil)
	for _, conv := range conversations {
		done, err := c.erase(ctx, ses, conv)
		switch {
		case err != nil && (!c.All || ctx.Err() != nil):
			return err
		case err != nil:
			failed, first = failed+1, cmp.Or(first, err)
			done.Kind, done.Error = pim.KindOf(err).String(), chat.Plain(err)
		}
		if err := ses.printing(func() error { return c.print(s.out, done, "%s", &done) }); err != nil {
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
	sent, err := ses.waitFor(ctx, m)
	switch {
	case pim.KindOf(err) == pim.KindNotFound: // what there was is gone
		done.Messages, done.AtMost = 0, false
		return done, nil
	case err != nil:
		return done, err
	}
	stored := sentOf(m.ID(), sent)
	done.sentJSON = &stored
	return done, nil
}

// eraseLooks is how many entries are looked through to count what the user has written.
const eraseLooks = pim.MaxPageEntries

// count finds out up to where to erase, and how many messages of the user are left up to there. It looks
// through the newest eraseLooks entries; below them it takes all messages for the user's, so that it costs two
// pages however long the conversation is.
func (c *eraseCmd) count(ctx context.Context, ses *session, done *erasedJSON) error {
	page, err := ses.Pull(ctx, done.Conversation, 0, pim.Seq(c.UpTo), eraseLooks, true)
	if err != nil {
		return err
	}
	if done.UpTo = page.Newest; c.UpTo != 0 {
		done.UpTo = pim.Seq(c.UpTo)
	}
	if done.UpTo > page.Newest {
		return pim.Errorf(pim.KindNotFound, "%s ends at seq %d", done.Conversation, page.Newest)
	}
	for i := range page.Entries {
		if e := &page.Entries[i]; e.Sender == ses.user && e.Kind == pim.EntryMessage && !e.Erased {
			done.Messages++
		}
	}
	if len(page.Entries) == 0 || page.From <= 1 {
		return nil
	}
	first, err := ses.Pull(ctx, done.Conversation, 1, 0, 1, false) // what was trimmed, or is not the user's, does not count
	if err != nil || len(first.Entries) == 0 {
		return err
	}
	if older := messagesBefore(&page.Entries[0]) - min(messagesBefore(&page.Entries[0]), messagesBefore(&first.Entries[0])); older > 0 {
		done.Messages, done.AtMost = done.Messages+older, true
	}
	return nil
}

// messagesBefore returns how many messages the log counts before e.
func messagesBefore(e *pim.Entry) uint64 {
	if e.Kind.Counts() {
		return e.Count - 1
	}
	return e.Count
}
