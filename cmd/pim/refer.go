package main

import (
	"context"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// referFlags are common to the commands about one message.
type referFlags struct {
	changeFlags
	target
	Seq seqArg `arg:"" help:"The message's seq, as send, tail and list print it."`
}

type editCmd struct {
	referFlags
	Text []string `arg:"" sep:"none" help:"The new text."`
}

type recallCmd struct{ referFlags }

type reactCmd struct {
	referFlags
	Reaction string `arg:"" help:"What to show, mostly an emoji."`
	Remove   bool   `name:"remove" help:"Take the reaction back."`
}

type pinMessageCmd struct {
	referFlags
	Remove bool `name:"remove" help:"End that."`
}

// Run edits a message.
func (c *editCmd) Run(ctx context.Context, s streams) error {
	text := strings.Join(c.Text, " ")
	if empty(text) {
		return pim.Errorf(pim.KindInvalid, "the text is empty; pim recall takes a message back")
	}
	return c.refer(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.Edit(ctx, conv, pim.Seq(c.Seq), []byte(text))
	})
}

// Run takes a message back.
func (c *recallCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.Recall(ctx, conv, pim.Seq(c.Seq))
	})
}

// Run reacts to a message, or takes a reaction back.
func (c *reactCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.React(ctx, conv, pim.Seq(c.Seq), c.Reaction, !c.Remove)
	})
}

// Run pins a message for all, or ends that.
func (c *pinMessageCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.PinMessage(ctx, conv, pim.Seq(c.Seq), !c.Remove)
	})
}

// refer sends what do queues, and prints the answer.
func (f *referFlags) refer(ctx context.Context, s streams, do func(context.Context, *session, pim.ConversationID) (*client.Sending, error)) error {
	return f.change(ctx, s, f.connect, func(ctx context.Context, ses *session) (*client.Sending, error) {
		conv, err := f.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		return do(ctx, ses, conv)
	}, storedAt)
}
