package server_test

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// shows waits until the app is told a setting of entity for which want is true.
func (a *app) shows(entity string, want func(pim.Setting) bool) {
	a.t.Helper()
	late := time.After(5 * time.Minute)
	for {
		select {
		case ev := <-a.Events():
			if s, ok := ev.(client.SettingEvent); ok && s.Entity == entity && !s.Pending && want(s.Setting) {
				return
			}
		case <-late:
			a.t.Fatalf("%s: %s never came to be so", a.user, entity)
		}
	}
}

func (a *app) do(s *client.Sending, err error) client.Sent {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
	return a.done(s)
}

// The other devices follow the commands of one device, the server enforces a block, and all of it
// outlives a restart.
func TestCommands(t *testing.T) {
	c := config(t)
	n := start(t, c, server.Options{})
	phone, laptop := n.connect("alice", "phone", "ws"), n.connect("alice", "laptop", "tcp")
	bob := n.connect("bob", "phone", "ws")
	chat := pim.Direct("alice", "bob")
	bob.says(chat, "hello")
	laptop.sees("hello")
	phone.do(phone.SetContact(t.Context(), "bob", []byte("Bob")))
	laptop.shows("contact/bob", func(s pim.Setting) bool { return string(s.Value) == "Bob" })
	laptop.do(laptop.MarkRead(t.Context(), &pim.Entry{Conversation: chat, Seq: 1, Count: 1}))
	phone.shows("read/"+string(chat), func(s pim.Setting) bool { return s.Seq == 1 && s.Count == 1 })
	laptop.do(laptop.Block(t.Context(), "bob", true))
	refused := func(bob *app) {
		t.Helper()
		s, err := bob.Send(t.Context(), chat, []byte("let me in"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(t.Context()); pim.KindOf(err) != pim.KindForbidden {
			t.Fatalf("bob is blocked, and gets %v", err)
		}
	}
	refused(bob)
	for _, a := range []*app{phone, laptop, bob} {
		a.Close()
	}
	n.stop()

	n = start(t, c, server.Options{})
	bob, tablet := n.connect("bob", "phone", "ws"), n.connect("alice", "tablet", "ws")
	refused(bob)
	tablet.shows("block/bob", func(s pim.Setting) bool { return s.InForce(1) })
	tablet.do(tablet.Block(t.Context(), "bob", false))
	bob.says(chat, "thank you")
}

// The server tells all devices the count of a read position, whatever the device said.
func TestReadPositions(t *testing.T) {
	n := start(t, config(t), server.Options{})
	phone, laptop, bob := n.connect("alice", "phone", "ws"), n.connect("alice", "laptop", "tcp"), n.connect("bob", "phone", "ws")
	chat := pim.Direct("alice", "bob")
	for _, text := range []string{"one", "two", "three"} {
		bob.says(chat, text)
	}
	phone.sees("one", "two", "three")
	phone.do(phone.MarkRead(t.Context(), &pim.Entry{Conversation: chat, Seq: 2, Count: 1}))
	for _, a := range []*app{phone, laptop} {
		a.shows("read/"+string(chat), func(s pim.Setting) bool { return s.Seq == 2 && s.Count == 2 })
	}
}
