package imtest_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
)

// List counts messages of others above what the user has read, written or joined by, and knows the
// rules of the mark as unread.
func TestList(t *testing.T) {
	type command = pim.Command
	var log, own []pim.Entry
	write := func(kind pim.EntryKind, sender pim.UserID) {
		log = append(log, pim.Entry{Seq: pim.Seq(len(log) + 1), Kind: kind, Sender: sender})
	}
	mentionAll := func() { log[len(log)-1].MentionAll = true }
	give := func(device pim.DeviceID, c command) {
		c.Subject = string(chat)
		own = append(own, pim.Entry{Seq: pim.Seq(len(own) + 1), Device: device, Payload: wire.AppendCommand(nil, &c)})
	}
	shows := func(want imtest.Listed) {
		t.Helper()
		if got := imtest.List(chat, "alice", own, log); got != want {
			t.Errorf("listed %+v, want %+v", got, want)
		}
	}
	write(pim.EntryMessage, "bob")
	write(pim.EntryEdit, "bob")
	write(pim.EntryMessage, "bob")
	log[len(log)-1].Mentions = []pim.Mention{{User: "alice"}}
	shows(imtest.Listed{Unread: 2, Mentions: 1})
	give("phone", command{Kind: pim.CommandRead, Seq: 2})
	give("phone", command{Kind: pim.CommandRead, Seq: 1})
	shows(imtest.Listed{Read: 2, Unread: 1, Mentions: 1})
	write(pim.EntryReaction, "alice")
	shows(imtest.Listed{Read: 2, Unread: 1, Mentions: 1})
	write(pim.EntryMessage, "alice")
	mentionAll()
	shows(imtest.Listed{Read: 2})
	write(pim.EntryMessage, "bob")
	give("phone", command{Kind: pim.CommandUnread})
	shows(imtest.Listed{Read: 2, Unread: 1, Marked: true})
	give("laptop", command{Kind: pim.CommandUnread, Removed: true})
	give("phone", command{Kind: pim.CommandUnread, Known: 3}) // without knowing of the end
	shows(imtest.Listed{Read: 2, Unread: 1})
	give("phone", command{Kind: pim.CommandUnread, Known: 5})
	shows(imtest.Listed{Read: 2, Unread: 1, Marked: true})
	give("phone", command{Kind: pim.CommandRead, Seq: 1, Replaces: true})
	shows(imtest.Listed{Read: 1, Unread: 1, Marked: true})
}
