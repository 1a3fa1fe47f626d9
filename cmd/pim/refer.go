package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// referFlags are common to the commands about one message.
type referFlags struct {
	clientFlags
	target
	Timeout time.Duration `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for the answer."`
	JSON    bool          `name:"json" help:"Print one JSON object."`
	Seq     pim.Seq       `arg:"" help:"The message's seq."`
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
	Remove bool `name:"remove" help:"The message is pinned no longer."`
}

// Run edits a message.
func (c *editCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.Edit(ctx, conv, c.Seq, []byte(strings.Join(c.Text, " ")))
	})
}

// Run takes a message back.
func (c *recallCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.Recall(ctx, conv, c.Seq)
	})
}

// Run reacts to a message, or takes a reaction back.
func (c *reactCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.React(ctx, conv, c.Seq, c.Reaction, !c.Remove)
	})
}

// Run pins a message for all, or ends that.
func (c *pinMessageCmd) Run(ctx context.Context, s streams) error {
	return c.refer(ctx, s, func(ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.PinMessage(ctx, conv, c.Seq, !c.Remove)
	})
}

// refer connects, sends what do queues, and prints the answer.
func (f *referFlags) refer(ctx context.Context, s streams, do func(*session, pim.ConversationID) (*client.Sending, error)) error {
	ses, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ses.Close()
	conv, err := f.resolve(ses.user)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(ses.stopped()) }() // ends with the session

	m, err := do(ses, conv)
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
	_, err = fmt.Fprintf(s.out, "stored: %s #%d\n", sent.Conversation, sent.Seq)
	return err
}
