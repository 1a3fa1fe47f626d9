package imtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// stage is a server of one node or several. Each user who opens a client does so at the next node.
type stage struct {
	*site
	servers []string
	opened  int
}

// stages runs a test with a server of one node, and with one of three.
func stages(t *testing.T, f func(*stage)) {
	t.Parallel()
	t.Run("one node", func(t *testing.T) {
		s := newSite(t)
		f(&stage{site: s, servers: []string{"http://" + s.config.Listen}})
	})
	t.Run("three nodes", func(t *testing.T) {
		network, shared, s := bustest.NewNetwork(), kept{storetest.NewMemory()}, &stage{site: &site{t: t}}
		var keys string
		for i := range 3 {
			c := server.Defaults()
			c.Consent = false // people here are strangers
			c.Data, c.Listen, c.ListenTCP, c.DrainWindow, c.Keys = t.TempDir(), loopback.Own()+":0", "", 0, keys
			c.ShedTarget = 0 // the machine may be too busy
			n, err := server.New(c, server.Options{
				Logger: slog.New(slog.DiscardHandler), Store: shared, Bus: network.Join(bus.Node{Name: fmt.Sprint("node-", i)}),
			})
			s.must(err)
			s.must(n.Start(t.Context()))
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), hang)
				defer cancel()
				if err := n.Shutdown(ctx); err != nil {
					t.Error(err)
				}
			})
			keys, s.servers = c.KeysPath(), append(s.servers, "http://"+n.Addr())
		}
		var err error
		s.keys, err = account.LoadKeys(keys)
		s.must(err)
		f(s)
	})
}

// kept is a store that is not closed with a node.
type kept struct{ store.Store }

// Close implements store.Store.
func (kept) Close() error { return nil }

// opens opens a client of user.
func (s *stage) opens(user pim.UserID) *client.Client {
	s.t.Helper()
	c, err := client.Open(s.t.Context(), client.Options{
		Server: s.servers[s.opened%len(s.servers)], User: user, Device: "phone",
		Token: func(context.Context) (string, error) { return s.keys.Issue(user, time.Hour, time.Now()) },
	})
	s.must(err)
	s.opened++
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Alice looks at her conversations with Bob. She is told when his phone has a message, and when he
// has read it, and in a group how many have; and of nobody who gives no receipts.
func TestLiveReceipts(t *testing.T) { stages(t, liveReceipts) }

func liveReceipts(s *stage) {
	t := s.t
	alice, bob := s.opens("alice"), s.opens("bob")
	limit := time.After(hang)
	sees := func(c *client.Client, ok func(client.Event) bool) {
		t.Helper()
		for {
			select {
			case ev := <-c.Events():
				if ok(ev) {
					return
				}
			case <-limit:
				t.Fatal("waits in vain")
			}
		}
	}
	done := func(sending *client.Sending, err error) client.Sent {
		t.Helper()
		s.must(err)
		sent, err := sending.Wait(t.Context())
		s.must(err)
		return sent
	}
	chat := pim.Direct("alice", "bob")
	var hi pim.Entry
	gets := func() {
		t.Helper()
		sees(bob, func(ev client.Event) bool {
			e, ok := ev.(client.EntryEvent)
			if ok && e.Entry.Kind == pim.EntryMessage {
				hi = e.Entry
				return true
			}
			return false
		})
	}
	told := func(ok func(client.ReceiptEvent) bool) {
		t.Helper()
		sees(alice, func(ev client.Event) bool {
			r, is := ev.(client.ReceiptEvent)
			return is && ok(r)
		})
	}
	s.must(alice.Look(t.Context(), []pim.ConversationID{chat}))
	done(alice.Send(t.Context(), chat, []byte("hi")))
	gets()
	told(func(ev client.ReceiptEvent) bool { return ev.Conversation == chat && ev.Receipts.Delivered == 1 })
	done(bob.MarkRead(t.Context(), &hi))
	told(func(ev client.ReceiptEvent) bool { return ev.Receipts.Read == 1 && ev.Receipts.ReadAt > 0 })

	group := done(alice.CreateGroup(t.Context(), []pim.UserID{"bob", "carl"})).Conversation
	s.must(alice.Look(t.Context(), []pim.ConversationID{group, chat}))
	done(alice.Send(t.Context(), group, []byte("hi all")))
	gets()
	done(bob.MarkRead(t.Context(), &hi))
	told(func(ev client.ReceiptEvent) bool {
		m := ev.Receipts.Messages
		return ev.Conversation == group && len(m) == 1 && m[0] == client.Receipt{Seq: 2, Read: 1, Members: 2}
	})
	done(bob.SetReceipts(t.Context(), false))
	done(alice.Send(t.Context(), group, []byte("bob?")))
	told(func(ev client.ReceiptEvent) bool {
		m := ev.Receipts.Messages
		return ev.Conversation == group && len(m) == 2 && m[0] == client.Receipt{Seq: 2, Members: 1}
	})
}

// Alice looks at Bob, who has written to her: she is told when he is connected, and when he writes.
// Carl, to whom Bob has not written, is not told, and nobody after Bob hides.
func TestLivePresence(t *testing.T) { stages(t, livePresence) }

func livePresence(s *stage) {
	t := s.t
	limit := time.After(hang)
	told := func(c *client.Client, ok func(client.Event) bool) {
		t.Helper()
		for {
			select {
			case ev := <-c.Events():
				if ok(ev) {
					return
				}
			case <-limit:
				t.Fatal("waits in vain")
			}
		}
	}
	is := func(online, seen bool) func(client.Event) bool {
		return func(ev client.Event) bool {
			p, ok := ev.(client.PresenceEvent)
			return ok && p.User == "bob" && p.Online == online && (p.Seen > 0) == seen
		}
	}
	done := func(sending *client.Sending, err error) {
		t.Helper()
		s.must(err)
		_, err = sending.Wait(t.Context())
		s.must(err)
	}
	chat := pim.Direct("alice", "bob")
	alice, bob, carl := s.opens("alice"), s.opens("bob"), s.opens("carl")
	done(bob.Send(t.Context(), chat, []byte("hi")))
	done(carl.Send(t.Context(), pim.Direct("bob", "carl"), []byte("hi")))
	s.must(carl.Look(t.Context(), nil, "bob"))
	told(carl, is(false, false))
	s.must(alice.Look(t.Context(), []pim.ConversationID{chat}, "bob"))
	told(alice, is(true, false))
	writes, stops := context.WithCancel(t.Context())
	var keyboard sync.WaitGroup
	keyboard.Go(func() { // what comes before alice's look, or late, is told to nobody
		for writes.Err() == nil && bob.Typing(writes, chat) == nil {
			imtest.Pause(writes, 100*time.Millisecond)
		}
	})
	told(alice, func(ev client.Event) bool {
		typing, ok := ev.(client.TypingEvent)
		return ok && typing.Conversation == chat && len(typing.Users) == 1 && typing.Users[0] == "bob"
	})
	stops()
	keyboard.Wait()
	before := pim.MillisOf(time.Now())
	bob.Close()
	told(alice, func(ev client.Event) bool {
		p, ok := ev.(client.PresenceEvent)
		return ok && !p.Online && p.Seen >= before-60_000 // a full minute
	})
	bob = s.opens("bob")
	told(alice, is(true, false))
	done(bob.SetPresence(t.Context(), false))
	told(alice, is(false, false))
}
