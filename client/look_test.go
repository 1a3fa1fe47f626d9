package client_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// A user looks at another: whether that one is connected, and writes. The look goes on over another
// connection. Who hides is not shown.
func TestPresence(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice"), w.device("bob")
	alice.synced()
	bob.synced()
	bob.sent(bob.SetContact(t.Context(), "alice", nil))
	if err := alice.Look(t.Context(), []pim.ConversationID{chat}, "bob"); err != nil {
		t.Fatal(err)
	}
	if ev := next[client.PresenceEvent](alice); ev.User != "bob" || !ev.Online {
		t.Errorf("alice looks and is told %+v", ev)
	}
	alice.sent(alice.sends(chat, "hi"), nil)
	for range 2 {
		if err := bob.Typing(t.Context(), chat); err != nil {
			t.Fatal(err)
		}
	}
	if ev := next[client.TypingEvent](alice); ev.Conversation != chat || len(ev.Users) != 1 || ev.Users[0] != "bob" {
		t.Errorf("alice looks and is told %+v", ev)
	}
	w.on.Cut()
	for ev := next[client.PresenceEvent](alice); !ev.Online; ev = next[client.PresenceEvent](alice) { // bob comes back, too
	}
	bob.sent(bob.SetPresence(t.Context(), false))
	if err := alice.Look(t.Context(), nil, "bob"); err != nil {
		t.Fatal(err)
	}
	for ev := next[client.PresenceEvent](alice); ev.Online; ev = next[client.PresenceEvent](alice) { // those of before
	}
	if err := alice.Look(t.Context(), nil, make([]pim.UserID, 101)...); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("a look at 101 users: %v", err)
	}
	if err := alice.Look(t.Context(), nil, ""); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a look at nobody: %v", err)
	}
}

// The app asks how far others have read, and switches receipts.
func TestReceipts(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice"), w.device("bob")
	alice.synced()
	bob.synced()
	alice.sends(chat, "1")
	alice.sends(chat, "2")
	bob.sees("1", "2")
	first, err := bob.Pull(t.Context(), chat, 1, 1, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	bob.sent(bob.MarkRead(t.Context(), &first.Entries[0]))
	r, err := alice.Receipts(t.Context(), chat, 1, 0)
	if err != nil || r.Read != 1 || r.ReadAt == 0 || r.Delivered < 1 {
		t.Errorf("alice is told %+v, %v", r, err)
	}
	if err := alice.Look(t.Context(), []pim.ConversationID{chat}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Receipts(t.Context(), chat, 1, 0); err != nil { // answered behind the look: what changes now is told
		t.Fatal(err)
	}
	second, err := bob.Pull(t.Context(), chat, 2, 2, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	bob.sent(bob.MarkRead(t.Context(), &second.Entries[0]))
	if ev := next[client.ReceiptEvent](alice); ev.Conversation != chat || ev.Receipts.Read != 2 {
		t.Errorf("alice looks and is told %+v", ev)
	}
	w.on.Cut()
	alice.sent(alice.sends(chat, "3"), nil)
	if ev := next[client.ReceiptEvent](alice); ev.Receipts.Read != 2 {
		t.Errorf("alice looks on over another connection, and is told %+v", ev)
	}
	bob.sent(bob.SetReceipts(t.Context(), false))
	if r, err := alice.Receipts(t.Context(), chat, 1, 0); err != nil || r.Read != 0 {
		t.Errorf("alice is told %+v, %v of one who gives no receipts", r, err)
	}
	if _, err := bob.Receipts(t.Context(), chat, 1, 0); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("bob gives no receipts, and is told: %v", err)
	}
	group := alice.sent(alice.CreateGroup(t.Context(), []pim.UserID{"bob", "carl"})).Conversation
	alice.sent(alice.sends(group, "to the group"), nil)
	if r, err := alice.Receipts(t.Context(), group, 1, 2); err != nil || len(r.Messages) != 1 || r.Messages[0] != (client.Receipt{Seq: 2, Members: 1}) {
		t.Errorf("alice is told %+v, %v of her group", r, err)
	}
	page, next, err := alice.Readers(t.Context(), group, 2, "")
	if err != nil || len(page) != 1 || page[0] != (client.Reader{User: "carl"}) || next != "" {
		t.Errorf("alice is told %+v, %q, %v", page, next, err)
	}
}
