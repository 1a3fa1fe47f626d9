package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// calls returns, by name, a call of every method that takes a context and returns an error.
func calls(c *client.Client, v *client.View) map[string]func(context.Context) error {
	sending := func(f func(context.Context) (*client.Sending, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := f(ctx)
			return err
		}
	}
	conv, entry := c.Conversation(chat), pim.Entry{Conversation: chat, Seq: 1, Count: 1}
	group, id := pim.ConversationID("g:abc"), pim.ClientMessageID{1}
	return map[string]func(context.Context) error{
		"Send":                        sending(func(ctx context.Context) (*client.Sending, error) { return c.Send(ctx, chat, []byte("no")) }),
		"CreateGroup":                 sending(func(ctx context.Context) (*client.Sending, error) { return c.CreateGroup(ctx, []pim.UserID{"bob"}) }),
		"Join":                        sending(func(ctx context.Context) (*client.Sending, error) { return c.Join(ctx, group, "bob") }),
		"Leave":                       sending(func(ctx context.Context) (*client.Sending, error) { return c.Leave(ctx, group) }),
		"Resend":                      sending(func(ctx context.Context) (*client.Sending, error) { return c.Resend(ctx, id) }),
		"Do":                          sending(func(ctx context.Context) (*client.Sending, error) { return c.Pin(ctx, chat, true) }),
		"SetContact":                  sending(func(ctx context.Context) (*client.Sending, error) { return c.SetContact(ctx, "bob", nil) }),
		"RemoveContact":               sending(func(ctx context.Context) (*client.Sending, error) { return c.RemoveContact(ctx, "bob") }),
		"Block":                       sending(func(ctx context.Context) (*client.Sending, error) { return c.Block(ctx, "bob", true) }),
		"Mute":                        sending(func(ctx context.Context) (*client.Sending, error) { return c.Mute(ctx, chat, time.Time{}) }),
		"Unmute":                      sending(func(ctx context.Context) (*client.Sending, error) { return c.Unmute(ctx, chat) }),
		"MarkRead":                    sending(func(ctx context.Context) (*client.Sending, error) { return c.MarkRead(ctx, &entry) }),
		"of a conversation: Send":     sending(func(ctx context.Context) (*client.Sending, error) { return conv.SendText(ctx, "no") }),
		"of a conversation: MarkRead": sending(func(ctx context.Context) (*client.Sending, error) { return conv.MarkRead(ctx) }),
		"Confirm": func(ctx context.Context) error {
			_, err := c.Confirm(ctx, client.EntryEvent{}, client.Answer{Conversation: chat})
			return err
		},
		"Discard": func(ctx context.Context) error { return c.Discard(ctx, id) },
		"Watch":   func(ctx context.Context) error { return c.Watch(ctx, chat, 0) },
		"Synced":  c.Synced,
		"Outbox":  func(ctx context.Context) error { _, err := c.Outbox(ctx); return err },
		"Messages": func(ctx context.Context) error {
			_, err := c.Messages(ctx, chat, 10)
			return err
		},
		"EntriesAfter": func(ctx context.Context) error {
			_, err := c.EntriesAfter(ctx, chat, 0, 0)
			return err
		},
		"Pull": func(ctx context.Context) error {
			_, err := c.Pull(ctx, chat, 0, 0, 0, false)
			return err
		},
		"Conversations":               func(ctx context.Context) error { _, err := c.Conversations(ctx); return err },
		"of a conversation: Info":     func(ctx context.Context) error { _, err := conv.Info(ctx); return err },
		"of a conversation: Messages": func(ctx context.Context) error { _, err := conv.Messages(ctx, 10); return err },
		"of a view: Older":            func(ctx context.Context) error { _, err := v.Older(ctx, 10); return err },
	}
}

// live returns a client that is synced, and a view of it.
func live(t *testing.T, p *piped, o client.Options) (*client.Client, *client.View) {
	t.Helper()
	o.Store = client.NewMemory(client.MemoryOptions{})
	p.says(t, 0, 3)
	c, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := c.Conversation(chat).Messages(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return c, v
}

// A call whose context has ended before is refused every time, and has no effect.
func TestCancelledContext(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		c, v := live(t, p, o)
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, call := range calls(c, v) {
			for range 50 {
				if err := call(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", name, err)
					break
				}
			}
		}
		time.Sleep(time.Minute)
		if list, err := c.Outbox(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("queued: %v, %v", list, err)
		}
		if n := len(p.server.Log(chat)) + len(p.server.Log(pim.Own("alice"))); n != 3 || len(v.Items()) != 1 {
			t.Errorf("%d entries on the server, %d in the view", n, len(v.Items()))
		}
		sending, err := c.Send(t.Context(), chat, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-sending.Done()
		for range 50 { // an outcome that is known is returned, whatever the context
			if _, err := sending.Wait(ctx); err != nil {
				t.Fatalf("a message that was sent: %v", err)
			}
		}
		if c, err := client.Open(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("opened: %v, %v", c, err)
		}
	})
}

// After Close every method says that the client is closed.
func TestAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		c, v := live(t, p, o)
		c.Close()
		all := calls(c, v)
		all["SetOnline"] = func(context.Context) error { return c.SetOnline(true) }
		all["SetForeground"] = func(context.Context) error { return c.SetForeground(true) }
		all["Reconnect"] = func(context.Context) error { return c.Reconnect() }
		all["NetworkChanged"] = func(context.Context) error { return c.NetworkChanged("") }
		for name, call := range all {
			for range 20 {
				if err := call(t.Context()); !errors.Is(err, client.ErrClosed) || pim.KindOf(err) != pim.KindUnavailable {
					t.Errorf("%s: %v", name, err)
					break
				}
			}
		}
		v.Close()
		if err := c.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
		if c.State() != client.Stopped {
			t.Errorf("the state is %s", c.State())
		}
	})
}

// Only one client at a time may use a store, even if another store wraps it.
func TestTwoClientsOnOneStore(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		m := client.NewMemory(client.MemoryOptions{})
		for _, store := range []client.Store{m, full{m}} {
			o.Store = m
			first, err := client.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			o.Store = store
			if c, err := client.Open(t.Context(), o); pim.KindOf(err) != pim.KindConflict {
				t.Errorf("a second client: %v, %v", c, err)
			}
			first.Close()
		}
		err := m.Apply(t.Context(), &client.Batch{Meta: &client.Meta{User: "alice", Device: "phone"}})
		if err != nil {
			t.Fatal(err)
		}
		wrong := o
		wrong.Store, wrong.Device = m, "laptop"
		if c, err := client.Open(t.Context(), wrong); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("another device's: %v, %v", c, err)
		}
		o.Store = m // the Open that was refused has released it
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}
