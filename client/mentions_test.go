package client_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Alice mentions Bob and all. His device has pulled nothing, and its list says how often, until he
// reads.
func TestMentions(t *testing.T) {
	w := newWorld(t)
	alice := w.device("alice").reads()
	group := alice.Conversation(alice.sent(alice.CreateGroup(t.Context(), []pim.UserID{"bob", "carl"})).Conversation)
	alice.sent(group.SendText(t.Context(), "@Bob, lunch?", client.Mention("bob", "bob")))
	alice.sent(group.SendText(t.Context(), "or is Carl there?"))
	last := alice.sent(group.SendText(t.Context(), "anybody?", client.MentionAll()))

	bob := w.device("bob").reads()
	bob.synced()
	has := func(want uint64) {
		t.Helper()
		if info, err := bob.Conversation(group.ID()).Info(t.Context()); err != nil || info.Mentions != want {
			t.Errorf("the list shows %d mentions of %d, %v; want %d", info.Mentions, info.Unread, err, want)
		}
	}
	has(2)
	bob.sent(bob.MarkRead(t.Context(), &pim.Entry{Conversation: group.ID(), Seq: last.Seq - 1}))
	has(1)
	bob.sent(bob.Conversation(group.ID()).MarkRead(t.Context()))
	has(0)
	if info, err := group.Info(t.Context()); err != nil || info.Mentions != 0 {
		t.Errorf("Alice, who wrote all, is mentioned %d times, %v", info.Mentions, err)
	}

	many := make([]pim.UserID, pim.MaxMentions+1)
	for i := range many {
		many[i] = pim.UserID([]byte{'u', byte('0' + i/10), byte('0' + i%10)})
	}
	if _, err := group.SendText(t.Context(), "all of you", client.Mention(many...)); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("%d names: %v", len(many), err)
	}
}
