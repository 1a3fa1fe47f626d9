package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/server"
)

// auditCmd prints the audit log.
type auditCmd struct {
	Data  string        `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory of the server, whether it runs or not."`
	Since time.Duration `name:"since" placeholder:"DURATION" help:"Only what is not older than this."`
	JSON  bool          `name:"json" help:"Print JSON, one object a line."`
}

// Run prints the audit log.
func (c *auditCmd) Run(ctx context.Context, s streams) error {
	from := pim.Millis(0)
	if c.Since > 0 {
		from = pim.MillisOf(time.Now().Add(-c.Since))
	}
	lines := json.NewEncoder(s.out)
	return server.ReadAudit(c.Data, func(line server.Audit) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case line.At < from:
			return nil
		case c.JSON:
			return lines.Encode(line)
		}
		_, err := fmt.Fprintln(s.out, chat.Printable(auditText(&line)))
		return err
	})
}

// auditText returns a line of the audit log for people.
func auditText(a *server.Audit) string {
	who := a.Who
	if who == "" {
		who = "-"
	}
	words := []string{a.Time, who, a.Act, a.State}
	for _, w := range []struct{ name, value string }{
		{"user", string(a.User)},
		{"device", string(a.Device)},
		{"token", a.Token},
		{"node", a.Node},
		{"path", a.Path},
		{"error", a.Error},
	} {
		if w.value != "" {
			words = append(words, fmt.Sprintf("%s=%q", w.name, w.value))
		}
	}
	if a.Before != 0 {
		words = append(words, "before="+a.Before.Time().UTC().Format(time.RFC3339))
	}
	if a.Ended != 0 {
		words = append(words, fmt.Sprintf("connections=%d", a.Ended))
	}
	return strings.Join(words, " ")
}
