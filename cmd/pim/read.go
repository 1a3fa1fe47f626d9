package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// readFlags are common to the commands about what the user has read.
type readFlags struct {
	waitFlags
	target
	JSON bool `name:"json" help:"Print one JSON object."`
}

type readCmd struct {
	readFlags
	Seq seqArg `arg:"" optional:"" help:"The seq of the last message that is read; without it, the newest."`
}

type unreadCmd struct {
	readFlags
	Remove bool `name:"remove" help:"Take the mark away. Reading does that too."`
}

// readJSON is what a conversation has come to. The names are stable.
type readJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	Read         pim.Seq            `json:"read"`
	Unread       uint64             `json:"unread"`
	Mentions     uint64             `json:"mentions"`
	Marked       bool               `json:"marked"`
}

// Run reads a conversation.
func (c *readCmd) Run(ctx context.Context, s streams) error {
	return c.run(ctx, s, pim.Seq(c.Seq), func(ctx context.Context, ses *session, e *pim.Entry) (*client.Sending, error) {
		return ses.MarkRead(ctx, e)
	})
}

// Run marks a conversation as unread, or takes the mark away.
func (c *unreadCmd) Run(ctx context.Context, s streams) error {
	return c.run(ctx, s, 0, func(ctx context.Context, ses *session, e *pim.Entry) (*client.Sending, error) {
		if info, err := ses.Conversation(e.Conversation).Info(ctx); err != nil || info.Left && !c.Remove {
			return nil, cmp.Or(err, notMember(ses.user, e.Conversation))
		}
		return ses.Do(ctx, pim.Command{Kind: pim.CommandUnread, Subject: string(e.Conversation), Removed: c.Remove})
	})
}

// run connects, lets do queue a command about the entry at seq (0: the newest one), and prints what
// the conversation has come to.
func (f *readFlags) run(ctx context.Context, s streams, seq pim.Seq, do func(context.Context, *session, *pim.Entry) (*client.Sending, error)) error {
	return f.with(ctx, f.peek, func(ctx context.Context, ses *session) error {
		conv, err := f.resolve(ses.user)
		if err != nil {
			return err
		}
		page, err := ses.Pull(ctx, conv, seq, seq, 1, true)
		switch {
		case err != nil:
			return err
		case len(page.Entries) == 0:
			return noEntry(conv, seq, page.Newest)
		}
		if err := ses.Synced(ctx); err != nil { // the command must know what the user's other devices have said
			return err
		}
		m, err := do(ctx, ses, &page.Entries[0])
		if err != nil {
			return err
		}
		if _, err := ses.waitFor(ctx, m); err != nil {
			return err
		}
		if err := ses.sentAll(ctx); err != nil {
			return err
		}
		return f.print(ctx, s, ses, conv)
	})
}

// noEntry returns the error of a command about the entry at seq (0: the newest one) of conv, whose
// newest is another one.
func noEntry(conv pim.ConversationID, seq, newest pim.Seq) error {
	if newest == 0 {
		return pim.Errorf(pim.KindNotFound, "there is nothing in %s yet", conv)
	}
	return pim.Errorf(pim.KindNotFound, "there is no entry #%d in %s, whose last is #%d", seq, conv, newest)
}

// sentAll waits until the outbox is empty: to read a conversation may take two commands.
func (s *session) sentAll(ctx context.Context) error {
	for {
		left, err := s.Outbox(ctx)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (f *readFlags) print(ctx context.Context, s streams, ses *session, conv pim.ConversationID) error {
	info, err := ses.Conversation(conv).Info(ctx)
	if err != nil {
		return err
	}
	j := readOf(ses, &info)
	if f.JSON {
		return json.NewEncoder(s.out).Encode(j)
	}
	read, marked := "", ""
	if j.Read != 0 { // it has been read otherwise: own messages read, too
		read = fmt.Sprintf("read up to #%d, ", j.Read)
	}
	if info.Marked {
		marked = ", marked as unread"
	}
	_, err = fmt.Fprintf(s.out, "%s: %s%s%s\n", conv, read, counted(info.Unread, info.Mentions), marked)
	return err
}

func readOf(ses *session, info *client.Info) readJSON {
	entity := pim.Command{Kind: pim.CommandRead, Subject: string(info.ID)}
	return readJSON{info.ID, ses.Setting(entity.Entity()).Seq, info.Unread, info.Mentions, info.Marked}
}
