package imtest_test

import (
	"context"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Messages that were written before a user joined a group, or while the user was not in
// it, do not count as unread: neither on a device that was connected nor on one that
// comes later.
func TestUnreadOfWhoJoins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	device := func(user pim.UserID, name pim.DeviceID) *phone {
		return s.phone(user, name, client.NewMemory(client.MemoryOptions{}))
	}
	alice, bob := device("alice", "phone"), device("bob", "phone")
	done := func(sending *client.Sending, err error) {
		t.Helper()
		s.must(err)
		_, err = sending.Wait(t.Context())
		s.must(err)
	}
	unread := func(p *phone, c pim.ConversationID, want uint64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		defer cancel()
		s.must(p.client.Reconnect()) // pushes may still be on their way; a sync has all
		s.must(p.client.Synced(ctx))
		info, err := p.client.Conversation(c).Info(ctx)
		s.must(err)
		if info.Unread != want {
			t.Errorf("%s/%s: %d unread, want %d", p.user, p.name, info.Unread, want)
		}
	}
	team := alice.creates()
	for range 5 {
		alice.sends(team, "before bob")
	}
	done(alice.client.Join(t.Context(), team, "bob"))
	alice.sends(team, "to bob")
	unread(bob, team, 1)
	unread(device("bob", "laptop"), team, 1)
	done(alice.client.Leave(t.Context(), team, "bob"))
	alice.sends(team, "without bob")
	done(alice.client.Join(t.Context(), team, "bob"))
	unread(bob, team, 0)
	alice.sends(team, "to bob again")
	unread(bob, team, 1)
	unread(device("bob", "tablet"), team, 1)
}
