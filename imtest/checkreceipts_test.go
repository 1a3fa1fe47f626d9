package imtest_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
)

// The checker knows how far others have read, and of how many.
func TestCheckReceipts(t *testing.T) {
	for _, test := range []struct {
		name string
		told client.Receipts
		end  bool
		want string
	}{
		{"at the end", client.Receipts{Messages: []client.Receipt{{Seq: 2}, {Seq: 3}, {Seq: 6, Read: 1, Members: 1}}}, true, ""},
		{"nobody has read before", client.Receipts{Messages: []client.Receipt{{Seq: 2, Members: 1}, {Seq: 6, Members: 1}}}, false, ""},
		{"who has left counts", client.Receipts{Messages: []client.Receipt{{Seq: 2, Members: 1}, {Seq: 3}, {Seq: 6, Read: 1, Members: 1}}}, true, "receipts 2"},
		{"a read that is not told", client.Receipts{Messages: []client.Receipt{{Seq: 2}, {Seq: 3}, {Seq: 6, Members: 1}}}, true, "receipts 6"},
		{"a message that is not told", client.Receipts{Messages: []client.Receipt{{Seq: 2}, {Seq: 6, Read: 1, Members: 1}}}, true, "receipts 3"},
		{"a read that there was not", client.Receipts{Messages: []client.Receipt{{Seq: 3, Read: 1, Members: 1}}}, false, "receipts 3"},
		{"a member that there was not", client.Receipts{Messages: []client.Receipt{{Seq: 6, Members: 2}}}, false, "receipts 6"},
		{"no message", client.Receipts{Messages: []client.Receipt{{Seq: 4}}}, false, "receipts 4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			read := pim.Command{Kind: pim.CommandRead, Subject: string(group), Seq: 6, Count: 3}
			e := pim.Entry{
				Conversation: pim.Own("carol"), Seq: 1, Anchor: 1, Kind: pim.EntryCommand, Sender: "carol", Device: "phone", Local: 9000, Server: 9000,
				ClientID: pim.ClientMessageID{99}, Payload: wire.AppendCommand(nil, &read),
			}
			r.sends = append(r.sends, imtest.Send{
				Conversation: e.Conversation, Sender: "carol", Device: "phone", ClientID: e.ClientID, Kind: e.Kind, Payload: imtest.SentSum(e.Kind, e.Payload),
			})
			r.more = func(h *imtest.History) {
				h.Log(e.Conversation, []pim.Entry{e})
				h.Receipts("alice", group, 1, 6, test.told, test.end)
			}
			if got := named(imtest.Check(r.history())); got != test.want {
				t.Errorf("found %q, want %q: %v", got, test.want, imtest.Check(r.history()))
			}
		})
	}
	for name, test := range map[string]struct {
		told client.Receipts
		want string
	}{
		"read by who wrote":          {client.Receipts{Read: 1, Delivered: 2}, ""},
		"read before it was":         {client.Receipts{Read: 2, Delivered: 2}, "receipts 2"},
		"delivered before it was":    {client.Receipts{Read: 1, Delivered: 3}, "receipts 3"},
		"a read that is not told of": {client.Receipts{}, "receipts 0"},
	} {
		h := imtest.NewHistory()
		var log []pim.Entry
		for i, from := range []pim.UserID{"bob", "alice", "alice"} {
			e := pim.Entry{Conversation: chat, Seq: pim.Seq(i + 1), Anchor: pim.Seq(i + 1), Count: uint64(i + 1), Kind: pim.EntryMessage, Sender: from}
			e.ClientID[0] = byte(i)
			h.Sent(imtest.Send{Conversation: chat, Sender: from, ClientID: e.ClientID, Kind: e.Kind, Payload: imtest.PayloadSum(nil)})
			log = append(log, e)
			if i < 2 {
				h.Handed(bob, 0, e, false)
			}
		}
		h.Log(chat, log)
		h.Receipts("alice", chat, 1, 3, test.told, true)
		if got := named(imtest.Check(h)); got != test.want {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
	}
}
