package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire/wirepb"
)

// Among several nodes the homes hear at what connections look, and say what is told: nobody is told of a user
// before the user's home has said something.
func TestHomesSayWhatIsLookedAt(t *testing.T) {
	x, homes, _ := withHomes(t)
	says := func(h Hint) {
		h.Subject, h.State = "u:bob", true
		x.gw.Sessions.Hint(h)
	}
	says(Hint{Online: true}) // nobody looks
	alice := x.connect(true, "alice", "phone")
	alice.send(&wirepb.PIMLook{Users: []string{"bob"}, Conversations: []string{"d:alice:bob"}})
	looks := func(what string, want ...string) {
		t.Helper()
		x.eventually(what, func() bool {
			homes.mu.Lock()
			defer homes.mu.Unlock()
			return slices.Equal(homes.looks, want)
		})
	}
	looks("alice looks", "+d:alice:bob", "+u:bob")
	x.gw.Sessions.Deliver(nil, []conv.Published{{Conversation: "u:bob", Settings: true}}) // is not the gateway's to tell
	says(Hint{Online: true})
	if m := expect[*wirepb.PIMPresence](alice); m.User != "bob" || !m.Online {
		t.Errorf("alice is told %v", m)
	}
	says(Hint{Seen: 120_000})
	if m := expect[*wirepb.PIMPresence](alice); m.Online || m.SeenMs != 120_000 {
		t.Errorf("bob is gone, alice is told %v", m)
	}
	second := x.connect(true, "carl", "phone")
	second.send(&wirepb.PIMLook{Conversations: []string{"d:alice:bob", "d:alice:carl"}})
	looks("carl looks at what is his", "+d:alice:bob", "+u:bob", "+d:alice:carl")
	second.send(&wirepb.PIMLook{})
	looks("carl looks away", "+d:alice:bob", "+u:bob", "+d:alice:carl", "-d:alice:carl")
	alice.nc.Close()
	x.eventually("alice is gone", func() bool {
		homes.mu.Lock()
		defer homes.mu.Unlock()
		return len(homes.looks) == 6 && slices.Contains(homes.looks, "-d:alice:bob") && slices.Contains(homes.looks, "-u:bob")
	})
}

// What changes and who writes is told to the homes, and to devices when the homes say it. What may have been missed
// is told anew.
func TestHomesHearOfChanges(t *testing.T) {
	x, homes, _ := withHomes(t)
	alice, bob := x.connect(false, "alice", "phone"), x.connect(false, "bob", "phone")
	alice.send(&wirepb.PIMLook{Conversations: []string{"d:alice:bob"}})
	bob.send(&wirepb.PIMTyping{Conversation: "d:alice:bob"})
	x.gw.Sessions.Acknowledged("d:alice:bob")
	x.gw.Sessions.Acknowledged("g:1") // of groups nobody is told
	x.eventually("the homes have heard", func() bool {
		homes.mu.Lock()
		defer homes.mu.Unlock()
		return len(homes.looks) == 1 && fmt.Sprint(homes.typing, homes.changed) == "[bob d:alice:bob] [d:alice:bob]"
	})
	x.gw.Sessions.Hint(Hint{Subject: "d:alice:bob", Typing: "bob"})
	if m := expect[*wirepb.PIMTyping](alice); fmt.Sprint(m.Users) != "[bob]" {
		t.Errorf("alice is told %v", m)
	}
	x.read.Store(3)
	x.gw.Sessions.Hint(Hint{Subject: "d:alice:bob"})
	if m := expect[*wirepb.PIMReceipt](alice); m.Read != 3 {
		t.Errorf("alice is told %v", m)
	}
	x.read.Store(4)
	x.gw.Sessions.Behind([]pim.UserID{"alice"})
	expect[*wirepb.PIMPush](alice) // at once; what she looks at is told once a second
	if m := expect[*wirepb.PIMReceipt](alice); m.Read != 4 {
		t.Errorf("alice is told %v", m)
	}
}
