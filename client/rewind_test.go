package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim/client"
)

// When the server goes back, a view shows what has become of its conversation: the
// entries that are left, those that others have sent again, and the user's own messages,
// which are sent again too.
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
	if err := bob.SetOnline(false); err != nil { // bob comes back later
		t.Fatal(err)
	}
	if err := alice.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // so that no entry gets the server time that it had before
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

// When the server has lost entries, an app that confirms entries is told. When the entries
// are sent again, they are handed over once more, as new ones.
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
