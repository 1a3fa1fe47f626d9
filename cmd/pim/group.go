package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type groupCmd struct {
	Create groupCreateCmd `cmd:"" help:"Create a group; its ID is printed."`
	Join   groupJoinCmd   `cmd:"" help:"Add users to a group."`
	Leave  groupLeaveCmd  `cmd:"" help:"Remove users from a group, or leave it."`
}

// groupFlags are common to the commands that change groups.
type groupFlags struct {
	clientFlags
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for the answer."`
	JSON    bool          `name:"json" help:"Print one JSON object."`
}

type groupCreateCmd struct {
	groupFlags
	Members []pim.UserID `arg:"" optional:"" sep:"none" help:"Members besides yourself."`
}

type groupJoinCmd struct {
	groupFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" sep:"none" help:"Whom to add."`
}

type groupLeaveCmd struct {
	groupFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" optional:"" sep:"none" help:"Whom to remove (default yourself)."`
}

// Run creates a group.
func (c *groupCreateCmd) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, c.Members, func(ses *session) (*client.Sending, error) {
		return ses.CreateGroup(ctx, c.Members)
	})
}

// Run adds members.
func (c *groupJoinCmd) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, c.Members, func(ses *session) (*client.Sending, error) {
		return ses.Join(ctx, c.Conversation, c.Members...)
	})
}

// Run removes members.
func (c *groupLeaveCmd) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, c.Members, func(ses *session) (*client.Sending, error) {
		return ses.Leave(ctx, c.Conversation, c.Members...)
	})
}

// change connects, carries out one change and prints the answer.
func (f *groupFlags) change(ctx context.Context, s streams, members []pim.UserID, do func(*session) (*client.Sending, error)) error {
	for _, m := range members {
		if err := m.Validate(); err != nil {
			return err
		}
	}
	ses, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session

	m, err := do(ses)
	if err != nil {
		return err
	}
	sent, err := ses.waitFor(ctx, m, f.Timeout)
	switch {
	case err != nil:
		return causeOf(ctx, err)
	case f.JSON:
		return json.NewEncoder(s.out).Encode(sentOf(m.ID(), sent))
	}
	_, err = fmt.Fprintln(s.out, sent.Conversation)
	return err
}
