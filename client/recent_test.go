package client_test

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
)

// A device that is new has more conversations than the server tells first, and in the end all.
func TestManyConversations(t *testing.T) {
	w := newWorld(t)
	alice := w.device("alice").reads()
	var want []pim.ConversationID
	for range 25 {
		want = append(want, alice.sent(alice.CreateGroup(t.Context(), []pim.UserID{"bob"})).Conversation)
	}
	bob := w.device("bob").reads()
	bob.synced()
	list, err := bob.Conversations(t.Context())
	var got []pim.ConversationID
	for i := range list {
		got = append(got, list[i].ID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d conversations, %v: %q, want %q", len(got), err, got, want)
	}
}
