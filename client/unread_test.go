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

// What comes in an open conversation, with the app in front, is never shown as unread, however
// often somebody looks; and what comes after that is.
func TestOpenConversation(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		p.pushes = true
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for range c.Events() {
			}
		}()
		conv := c.Conversation(chat)
		unread := func() uint64 {
			info, err := conv.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			return info.Unread
		}
		p.says(t, 0, 3) // before the client has connected
		if err := c.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := conv.MarkUnread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := unread(); n != 3 {
			t.Errorf("%d unread before, want 3", n)
		}
		if err := c.SetForeground(true); err != nil {
			t.Fatal(err)
		}
		if err := conv.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		end := make(chan struct{})
		looked := make(chan struct{})
		go func() {
			defer close(looked)
			for {
				select {
				case <-end:
					return
				case <-time.After(100 * time.Microsecond):
				}
				if n := unread(); n != 0 {
					t.Errorf("%d unread while it is open", n)
					return
				}
			}
		}()
		for i := range 50 {
			p.says(t, 3+i, 1)
			if _, err := c.Pull(t.Context(), chat, 0, 0, 1, true); err != nil { // the push comes with its answer
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		close(end)
		<-looked
		if info, err := conv.Info(t.Context()); err != nil || info.Marked {
			t.Errorf("%+v, %v", info, err)
		}
		if err := conv.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := unread(); n != 0 {
			t.Errorf("%d unread when it is closed", n)
		}
		time.Sleep(time.Second)
		if read := p.server.Settings("alice")["read/"+string(chat)]; read.Seq != 53 {
			t.Errorf("the server has %+v", read)
		}
		commands := len(p.server.Log(pim.Own("alice")))
		if commands > 6 {
			t.Errorf("%d commands for half a second", commands)
		}
		p.says(t, 53, 1)
		if _, err := c.Pull(t.Context(), chat, 0, 0, 1, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := unread(); n != 1 {
			t.Errorf("%d unread after that, want 1", n)
		}
		if err := c.Conversation("x").Open(t.Context()); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("a conversation that cannot be: %v", err)
		}
	})
}
