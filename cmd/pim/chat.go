package main

import (
	"cmp"
	"context"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type chatCmd struct {
	clientFlags
	target
	Memory  bool    `name:"memory" help:"Keep nothing on disk: no history, outbox or unread counts for the next time."`
	Plain   bool    `name:"plain" help:"Line by line, on a terminal too."`
	History int     `name:"history" default:"20" placeholder:"N" help:"Line by line: entries to show from before."`
	Timeout timeout `name:"timeout" default:"30s" placeholder:"DURATION" help:"Line by line: how long to wait for the server at the start, and for answers after the end of the input."`
	JSON    bool    `name:"json" help:"Print one JSON object an event."`
}

// chatDir is the directory in the data directory that holds the local stores of chats.
const chatDir = "chat"

// Run chats on the screen, or line by line.
func (c *chatCmd) Run(ctx context.Context, s streams) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	var conv pim.ConversationID
	if in, out, ok := s.terminal(); ok && !c.Plain && !c.JSON && os.Getenv("TERM") != "dumb" {
		if c.target != (target{}) {
			if conv, err = c.resolve(o.User); err != nil {
				return err
			}
		}
		if err := c.openStore(ctx, &o); err != nil {
			return err
		}
		defer o.Store.Close()
		return chat.Run(ctx, chat.Screen{In: in, Out: out, Server: hostOf(c.Server), Open: conv, Hint: c.hint}, o)
	}
	if conv, err = c.resolve(o.User); err != nil {
		return err
	}
	if err := c.openStore(ctx, &o); err != nil {
		return err
	}
	defer o.Store.Close()
	return c.lines(ctx, s, conv, o)
}

// openStore sets the store and, if none was named, the device of o. The caller
// closes the store.
func (c *chatCmd) openStore(ctx context.Context, o *client.Options) (err error) {
	if c.Memory {
		o.Store, o.Device = client.NewMemory(client.MemoryOptions{}), cmp.Or(o.Device, newDevice())
		return nil
	}
	o.Store, o.Device, err = chat.OpenStore(ctx, filepath.Join(c.Data, chatDir), o.User, o.Device)
	if err == nil {
		// A malformed store may be noticed only when it is read.
		if _, err = o.Store.Load(ctx); err != nil {
			o.Store.Close()
		}
	}
	return storeHint(err)
}

// storeHint says what to do about a local store that cannot be used. Its errors name
// the file.
func storeHint(err error) error {
	if wrongFile(err) { // trying again does not help
		return &hintedError{here(err), "name another directory with --data, or chat without one with --memory"}
	}
	switch pim.KindOf(err) {
	case pim.KindUnavailable:
		return &hintedError{err, "name another directory with --data, or chat without one with --memory"}
	case pim.KindConflict: // another chat has the store open; no server has refused anything
		busy := &pim.Error{Kind: pim.KindUnavailable, Text: chat.Plain(err), Err: err}
		return &hintedError{busy, "end the other chat, leave out --device, or chat without a file with --memory"}
	case pim.KindCorrupt:
		return &hintedError{err, "move that file away and chat again: the server has everything but what this chat had not sent"}
	case pim.KindUnsupported:
		return &hintedError{err, "use the newer version, or take another --device"}
	}
	return err
}

// terminal returns the input and output if both are a terminal.
func (s streams) terminal() (in, out *os.File, ok bool) {
	in, inOK := s.in.(*os.File)
	out, outOK := s.out.(*os.File)
	return in, out, inOK && outOK && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// hostOf returns a URL's host and port.
func hostOf(server string) string {
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		return u.Host
	}
	return server
}
