package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

// revokeCmd revokes tokens.
type revokeCmd struct {
	ofServer
	User   pim.UserID   `name:"user" required:"" placeholder:"USER" help:"User whose tokens are refused that were issued until now. Newer ones are good."`
	Device pim.DeviceID `name:"device" placeholder:"DEVICE" help:"Only when they come with this device: sign it out."`
	Token  string       `name:"token" placeholder:"JTI" help:"Only the token with this jti, for good."`
	Before string       `name:"before" placeholder:"TIME" help:"Those issued before this time, like 2026-12-01T12:00:00Z, in place of now."`
	JSON   bool         `name:"json" help:"Print one JSON object."`
}

// Run has the server revoke.
func (c *revokeCmd) Run(ctx context.Context, s streams) error {
	r := server.Revoke{User: c.User, Device: c.Device, Token: c.Token}
	what := "tokens of " + string(c.User) + " that were issued before"
	if c.Device != "" {
		what = fmt.Sprintf("tokens of %s with device %s that were issued before", c.User, c.Device)
	}
	if c.Before != "" {
		at, err := time.Parse(time.RFC3339, c.Before)
		if err != nil {
			return &usageError{fmt.Errorf("--before %q is no time like 2026-12-01T12:00:00Z", c.Before), "revoke"}
		}
		r.Before = pim.MillisOf(at)
		if c.Token != "" {
			return &usageError{fmt.Errorf("--before says nothing about the token that --token names"), "revoke"}
		}
	}
	return revoke(ctx, s, c.Data, r, c.JSON, func(done server.Revoked) string {
		if c.Token != "" {
			return "the token is revoked"
		}
		before := done.At
		if r.Before != 0 {
			before = r.Before
		}
		return fmt.Sprintf("%s %s are revoked", what, before.Time().UTC().Format(time.RFC3339))
	})
}

// userCmd are the commands about a user that operators give.
type userCmd struct {
	Block   userBlockCmd   `cmd:"" help:"Let a user in with no token at all, and end the user's connections; until unblocked."`
	Unblock userUnblockCmd `cmd:"" help:"End that."`
	Show    userShowCmd    `cmd:"" help:"Show what is revoked of a user, and whether the user is blocked."`
}

// ofUser names a user of a running server.
type ofUser struct {
	ofServer
	User pim.UserID `arg:"" help:"The user."`
	JSON bool       `name:"json" help:"Print one JSON object."`
}

type userBlockCmd struct{ ofUser }

type userUnblockCmd struct{ ofUser }

type userShowCmd struct{ ofUser }

// Run has the server block the user.
func (c *userBlockCmd) Run(ctx context.Context, s streams) error {
	return revoke(ctx, s, c.Data, server.Revoke{User: c.User, Block: true}, c.JSON, func(server.Revoked) string {
		return string(c.User) + " is blocked"
	})
}

// Run has the server unblock the user.
func (c *userUnblockCmd) Run(ctx context.Context, s streams) error {
	return revoke(ctx, s, c.Data, server.Revoke{User: c.User, Unblock: true}, c.JSON, func(server.Revoked) string {
		return string(c.User) + " is not blocked any more"
	})
}

// Run prints what was done about the user's access.
func (c *userShowCmd) Run(ctx context.Context, s streams) error {
	st, err := server.AccessOf(ctx, server.Config{Data: c.Data}, c.User)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(st)
	}
	return printStanding(s.out, &st)
}

func printStanding(w io.Writer, st *server.Standing) error {
	at := func(ms pim.Millis) string { return ms.Time().UTC().Format(time.RFC3339) }
	var lines []string
	if st.Blocked {
		lines = append(lines, "blocked")
	}
	if st.Before != 0 {
		lines = append(lines, "revoked: tokens issued before "+at(st.Before))
	}
	for _, d := range slices.Sorted(maps.Keys(st.Devices)) {
		lines = append(lines, fmt.Sprintf("revoked: tokens issued before %s with device %s", at(st.Devices[d]), d))
	}
	for _, id := range st.Tokens {
		lines = append(lines, fmt.Sprintf("revoked: the token %q", id))
	}
	if len(lines) == 0 {
		lines = []string{"nothing is revoked"}
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// revoke has the server on data do r, and prints what has become of it: for people as say has it.
func revoke(ctx context.Context, s streams, data string, r server.Revoke, asJSON bool, say func(server.Revoked) string) error {
	done, err := server.RevokeAccess(ctx, server.Config{Data: data}, r)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(s.out).Encode(done)
	}
	if _, err := fmt.Fprintf(s.out, "%s; connections ended: %d\n", say(done), done.Ended); err != nil || len(done.Missed) == 0 {
		return err
	}
	_, err = fmt.Fprintf(s.out, "no answer from %s: there connections end within 10 s, if the store is reached\n", strings.Join(done.Missed, ", "))
	return err
}
