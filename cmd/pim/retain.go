package main

import (
	"context"
	"encoding/json"
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
	return c.change(ctx, s, c.connect, func(ctx context.Context, ses *session) (*client.Sending, error) {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		return ses.Retain(ctx, conv, age)
	}, storedAt)
}

// show prints for how long the conversation says that its messages are kept.
func (c *retainCmd) show(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return err
		}
		age, err := ses.Retention(ctx, conv)
		if err != nil {
			return err
		}
		out := retentionJSON{conv, pim.Millis(age.Milliseconds())}
		if c.JSON {
			return json.NewEncoder(s.out).Encode(out)
		}
		said := "as long as the server keeps them"
		if age != 0 {
			said = chat.Age(out.RetainMS)
		}
		_, err = fmt.Fprintf(s.out, "%s: %s\n", conv, said)
		return err
	})
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
