package main

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type groupCmd struct {
	Create groupCreateCmd `cmd:"" help:"Create a group; its ID is printed."`
	Join   groupJoinCmd   `cmd:"" help:"Add users to a group."`
	Leave  groupLeaveCmd  `cmd:"" help:"Remove users from a group, or leave it."`
}

type groupCreateCmd struct {
	changeFlags
	Members []pim.UserID `arg:"" optional:"" sep:"none" help:"Members besides yourself."`
}

type groupJoinCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" sep:"none" help:"Whom to add."`
}

type groupLeaveCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" optional:"" sep:"none" help:"Whom to remove (default yourself)."`
}

// Run creates a group.
func (c *groupCreateCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.CreateGroup(ctx, c.Members)
	})
}

// Run adds members.
func (c *groupJoinCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Join(ctx, c.Conversation, c.Members...)
	})
}

// Run removes members.
func (c *groupLeaveCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Leave(ctx, c.Conversation, c.Members...)
	})
}

// changeGroup carries out a change that names members, and prints the group's ID.
func changeGroup(ctx context.Context, s streams, f *changeFlags, members []pim.UserID, do func(context.Context, *session) (*client.Sending, error)) error {
	for _, m := range members {
		if err := m.Validate(); err != nil {
			return err
		}
	}
	return f.change(ctx, s, f.connect, do, func(sent client.Sent) string { return string(sent.Conversation) })
}
