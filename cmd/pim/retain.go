package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type retainCmd struct {
	changeFlags
	target
	Age string `arg:"" name:"age" help:"For how long, like 30d or 720h, at least 7d; off: as long as the server keeps them."`
}

// Run says for how long a conversation keeps its messages.
func (c *retainCmd) Run(ctx context.Context, s streams) error {
	age, err := parseAge(c.Age)
	if err != nil {
		return err
	}
	return c.change(ctx, s, c.connect, func(ses *session) (*client.Sending, error) {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		return ses.Retain(ctx, conv, age)
	}, storedAt)
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
