package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim/client"
)

// A view shows what has become of its conversation when the server goes back: what is
// left, what others have brought back, and the user's own on its way.
func TestViewOfAServerThatWentBack(t *testing.T) {
	w := newWorld(t)
	w.server.Store = "store 0"
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	alice.sent(alice.sends(chat, "one"), nil)
	before := w.server.Backup()
	bob.sent(bob.sends(chat, "two"), nil)
	alice.sent(alice.sends(chat, "three"), nil)
	alice.synced()
	v := alice.views(chat, 10)
	comesToShow(t, v, "one", "two", "three")
	if err := bob.SetOnline(false); err != nil { // it comes back later
		t.Fatal(err)
	}
	if err := alice.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // so that no entry has the server time that it had
	w.server.Restore(before, "store 1")
	if err := alice.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	comesToShow(t, v, "one", "three")
	if err := bob.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	comesToShow(t, v, "one", "three", "two")
	infos, err := alice.Conversations(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Newest != 3 {
		t.Errorf("the list is %+v, %v", infos, err)
	}
}

// An app that confirms entries is not handed those that the server has lost, and is
// handed again, as new ones, what comes back.
func TestConfirmingAppOfAServerThatWentBack(t *testing.T) {
	w := newWorld(t)
	w.server.Store = "store 0"
	bob := w.device("bob").reads()
	o := w.options("alice", "bot")
	o.Confirm, o.Store = true, client.NewMemory(client.MemoryOptions{})
	alice := w.opens(o)
	for i := range 3 {
		bob.sent(bob.sends(chat, fmt.Sprint(i)), nil)
	}
	alice.sees("0", "1", "2")
	time.Sleep(2 * time.Millisecond)
	if err := alice.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	if err := bob.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	w.server.Restore(nil, "store 1")
	if err := alice.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	for {
		if ev := next[client.RewoundEvent](alice); ev.Conversation == chat {
			if ev.After != 0 {
				t.Errorf("taken back to %d", ev.After)
			}
			break
		}
	}
	if err := bob.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	alice.sees("0", "1", "2")
}
