package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// comesIn connects and returns why the server refused it, nil if it did not.
func (n *node) comesIn(user pim.UserID, device pim.DeviceID) error {
	n.t.Helper()
	c, err := client.Open(n.t.Context(), client.Options{
		Server: n.url("http"), User: user, Device: device,
		Token:      func(context.Context) (string, error) { return n.keys.Issue(user, time.Hour, time.Now()) },
		BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	for ev := range c.Events() {
		if s, ok := ev.(client.StateEvent); ok && (s.State == client.Connected || s.Err != nil) {
			return s.Err
		}
	}
	n.t.Fatal("the events ended")
	return nil
}

// A new user is refused whose name does not have the form of RFC 8265, in which names do not look
// alike. A user who was there before names were checked goes on as before.
func TestNamesThatLookAlike(t *testing.T) {
	const old = pim.UserID("zoe\u0301") // "zoé" in NFD, from before names were checked
	chat := pim.Direct("bob", old)
	st := storetest.NewMemory()
	entry := pim.Entry{Conversation: chat, Seq: 1, Kind: pim.EntryMessage, Sender: "bob", Device: "d", ClientID: pim.ClientMessageID{1}, Server: 1, Local: 1, Anchor: 1, Count: 1, Payload: []byte("from before")}
	line := inbox.Line{Newest: 1, Count: 1}
	w := &store.Write{Log: inbox.Entries(chat), Records: [][]byte{wire.AppendEntry(nil, &entry)}, Cells: []store.CellWrite{
		{Partition: inbox.Lines("bob"), Cell: line.Cell(chat)}, {Partition: inbox.Lines(old), Cell: line.Cell(chat)},
	}}
	if err := store.Commit(t.Context(), st, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	n := start(t, config(t), server.Options{Store: st})

	for _, user := range []pim.UserID{"zoe\u0300", "al\u200bice", "al\u202eice", "\ufeffalice", "\uff41lice"} {
		err := n.comesIn(user, "phone")
		if pim.KindOf(err) != pim.KindUnauthorized || !strings.Contains(err.Error(), "RFC 8265") {
			t.Errorf("a new user %+q: %v, want unauthorized", user, err)
		}
	}
	if err := n.comesIn("alice", "pho\u200bne"); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "device ID") {
		t.Errorf("a new device: %v, want invalid", err)
	}
	for _, user := range []pim.UserID{"zo\u00e9", "王小明", "می\u200cخواهم"} {
		if err := n.comesIn(user, "téléphone"); err != nil {
			t.Errorf("a new user %+q: %v", user, err)
		}
	}

	zoe, bob := n.connect(string(old), "phone", "http"), n.connect("bob", "phone", "http")
	zoe.sees("from before")
	zoe.says(chat, "still here")
	zoe.says(pim.Direct(old, old), "a note")
	if _, err := zoe.Do(t.Context(), pim.Command{Kind: pim.CommandContact, Subject: "bob"}); err != nil {
		t.Error(err)
	}
	bob.sees("from before", "still here")
	sending, err := bob.Send(t.Context(), pim.Direct("bob", "zoe\u0302"), []byte("who are you?"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sending.Wait(t.Context()); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a message to a new name: %v, want invalid", err)
	}
}
