package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pim-im/pim"
)

type tokenCmd struct {
	keyFlags
	User pim.UserID    `name:"user" required:"" placeholder:"USER" help:"User whom the token lets in."`
	TTL  time.Duration `name:"ttl" default:"24h" placeholder:"DURATION" help:"How long it does."`
	JSON bool          `name:"json" help:"Print one JSON object."`
}

// Run prints a token.
func (c *tokenCmd) Run(s streams) error {
	now := time.Now()
	token, err := c.issue(c.User, c.TTL, now)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(struct {
			User      pim.UserID `json:"user"`
			Token     string     `json:"token"`
			ExpiresMS pim.Millis `json:"expires_ms"`
		}{c.User, token, pim.MillisOf(now.Add(c.TTL).Truncate(time.Second))})
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}
