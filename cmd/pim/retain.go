package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type retainCmd struct {
	changeFlags
	target
	Age string `arg:"" optional:"" name:"age" help:"For how long, like 30d or 720h, at least 7d; off: as long as the server keeps them. Without it, what holds is printed."`
}

// retentionJSON is what pim retain prints for scripts. The names are stable.
type retentionJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	RetainMS     pim.Millis         `json:"retain_ms"`
	By           string             `json:"by,omitempty"`
	NextMS       pim.Millis         `json:"next_ms,omitempty"`
	NextFromMS   pim.Millis         `json:"next_from_ms,omitempty"`
	SaidMS       pim.Millis         `json:"said_ms"`
	ServerMS     pim.Millis         `json:"server_ms"`
}

// Run says, or prints, for how long a conversation keeps its messages.
func (c *retainCmd) Run(ctx context.Context, s streams) error {
	if c.Age == "" {
		return c.show(ctx, s)
	}
	age, err := parseAge(c.Age)
	if err != nil {
		return err
	}
	var ask func(pim.ConversationID) (client.Retention, error) // of the session of change
	return c.change(ctx, s, c.connect, func(ctx context.Context, ses *session) (*client.Sending, error) {
		ask = func(conv pim.ConversationID) (client.Retention, error) { return ses.Retention(ctx, conv) }
		conv, err := c.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		return ses.Retain(ctx, conv, age)
	}, func(sent client.Sent) string {
		text := storedAt(sent)
		if r, err := ask(sent.Conversation); err == nil { // it is stored in any case
			text += fmt.Sprintf("\n%s: %s", sent.Conversation, kept(&r))
		}
		return text
	})
}

// show prints for how long the conversation keeps its messages.
func (c *retainCmd) show(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return err
		}
		r, err := ses.Retention(ctx, conv)
		if err != nil {
			return err
		}
		return c.print(s.out, retentionOf(conv, &r), "%s: %s", conv, kept(&r))
	})
}

func retentionOf(conv pim.ConversationID, r *client.Retention) retentionJSON {
	out := retentionJSON{
		Conversation: conv, RetainMS: millis(r.InForce), By: setBy(r, r.InForce), SaidMS: millis(r.Said), ServerMS: millis(r.Server),
	}
	if !r.From.IsZero() {
		out.NextMS, out.NextFromMS = millis(r.Next), pim.MillisOf(r.From)
	}
	return out
}

func millis(d time.Duration) pim.Millis { return pim.Millis(d.Milliseconds()) }

// setBy returns who has set age, which holds or will: conversation, server, or nobody if it is for
// ever.
func setBy(r *client.Retention, age time.Duration) string {
	switch {
	case age == 0:
		return ""
	case age == r.Server:
		return "server"
	}
	return "conversation"
}

// kept returns r for people.
func kept(r *client.Retention) string {
	text := keptFor(r, r.InForce)
	if !r.From.IsZero() {
		text += fmt.Sprintf("; from %s on %s", r.From.Local().Format("2006-01-02 15:04"), keptFor(r, r.Next))
	}
	if r.From.IsZero() && setBy(r, r.InForce) == "server" && r.Said > r.InForce {
		text += fmt.Sprintf(", less than the %s of this conversation", chat.Age(millis(r.Said)))
	}
	return text
}

// keptFor returns age, which holds or will, and who has set it.
func keptFor(r *client.Retention, age time.Duration) string {
	switch setBy(r, age) {
	case "":
		return "for ever"
	case "server":
		return chat.Age(millis(age)) + ", set by the server"
	}
	return chat.Age(millis(age)) + ", set by this conversation"
}

// parseAge reads days, a duration, or off, which is 0.
func parseAge(text string) (time.Duration, error) {
	if text == "off" {
		return 0, nil
	}
	age, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		age = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || age <= 0 {
		return 0, pim.Errorf(pim.KindInvalid, "%q is no time like 30d or 720h, nor off", text)
	}
	return age, nil
}
