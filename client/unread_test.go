package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// An app that does not read its events is told so: by the log, and by the errors of calls
// that wait in vain or find no room. When the app reads again, everything goes on.
func TestUnreadEventsAreNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		var log bytes.Buffer
		o.Logger, o.EventBuffer = slog.New(slog.NewTextHandler(&log, nil)), 30
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var last *client.Sending
		for i := 0; ; i++ {
			s, err := c.Send(t.Context(), chat, fmt.Append(nil, i))
			if err != nil {
				if pim.KindOf(err) != pim.KindOverloaded || !strings.Contains(err.Error(), "Events") {
					t.Errorf("a full outbox: %v", err)
				}
				break
			}
			if last = s; i%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
			if i == 9000 {
				time.Sleep(time.Minute)
			}
		}
		for what, wait := range map[string]func(context.Context) error{
			"wait":   func(ctx context.Context) error { _, err := last.Wait(ctx); return err },
			"pull":   func(ctx context.Context) error { _, err := c.Pull(ctx, chat, 0, 0, 0, false); return err },
			"synced": c.Synced,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Events") {
				t.Errorf("%s: %v", what, err)
			}
			cancel()
		}
		go func() {
			for range c.Events() {
			}
		}()
		if _, err := last.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Synced(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
		if !strings.Contains(log.String(), "until it reads Events") {
			t.Errorf("the log says nothing: %s", log.String())
		}
	})
}

// The recipe for an app that only sends (Options.Watch, and Events drained) works for
// ten times as many messages as EventBuffer has room for.
func TestSendingOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		p.says(t, 0, 2000) // history, which nobody loads
		m := client.NewMemory(client.MemoryOptions{})
		o.Store, o.Watch = m, true
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for range c.Events() {
			}
		}()
		for i := range 10_000 {
			s, err := c.Send(t.Context(), chat, fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			if i%1000 == 999 {
				if _, err := s.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(p.server.Log(chat)); n != 12_000 {
			t.Errorf("%d entries on the server, want 12,000", n)
		}
		if list, err := m.Entries(t.Context(), chat, nil, 1); err != nil || len(list) > 0 {
			t.Errorf("history was loaded: %v, %v", list, err)
		}
	})
}
