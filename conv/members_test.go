package conv_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store/storetest"
)

// Members tells who is in a group and who owns it as the writer has it, since when, and to members only;
// also of who gives no receipts. Where the entries were trimmed it does not tell the time.
func TestMembersAreTold(t *testing.T) {
	for _, trim := range []bool{false, true} {
		s, rec := storetest.NewMemory(), newRecorder()
		w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		do := func(r *conv.Request) pim.ConversationID {
			t.Helper()
			a, err := persist(w, rec, r)
			if err != nil {
				t.Fatal(err)
			}
			if trim && r.Kind != pim.EntryCommand {
				trimmed(t, w, a.Request.Conversation, math.MaxInt64)
			}
			return a.Request.Conversation
		}
		x := inbox.New(s)
		var g pim.ConversationID
		tells := func(user, owner pim.UserID, want string) {
			t.Helper()
			p, err := x.Members(t.Context(), user, inbox.MembersRequest{Conversation: g})
			got := ""
			for _, m := range p.Members {
				got += fmt.Sprintf("%s %d ", m.User, m.Since)
				if (m.At == 0) != trim {
					t.Errorf("trimmed %v: %s is a member since %d", trim, m.User, m.At)
				}
			}
			if err != nil || p.Owner != owner || got != want || p.Next != "" {
				t.Errorf("trimmed %v: owner %s of %s, %v; want %s of %s", trim, p.Owner, got, err, owner, want)
			}
		}
		refuses := func(user pim.UserID, c pim.ConversationID, kind pim.Kind) {
			t.Helper()
			if _, err := x.Members(t.Context(), user, inbox.MembersRequest{Conversation: c}); pim.KindOf(err) != kind {
				t.Errorf("%s of %s: %v, want %s", user, c, err, kind)
			}
		}
		g = do(inGroup("", pim.EntryCreate, "mia", "zoe", "bob"))
		tells("bob", "mia", "bob 1 mia 1 zoe 1 ")
		refuses("cat", g, pim.KindNotMember)
		do(inGroup(g, pim.EntryJoin, "bob", "cat", "abe"))
		do(command("abe", "d", pim.Command{Kind: pim.CommandNoReceipts, Subject: "abe"}))
		tells("cat", "mia", "abe 2 bob 1 cat 2 mia 1 zoe 1 ")
		do(inGroup(g, pim.EntryLeave, "mia"))
		tells("cat", "zoe", "abe 2 bob 1 cat 2 zoe 1 ")
		refuses("mia", g, pim.KindNotMember)
		do(inGroup(g, pim.EntryLeave, "zoe", "zoe", "bob"))
		tells("abe", "cat", "abe 2 cat 2 ") // the join named cat first
		do(inGroup(g, pim.EntryJoin, "abe", "mia"))
		tells("mia", "cat", "abe 2 cat 2 mia 5 ")
		refuses("mia", pim.Direct("mia", "abe"), pim.KindInvalid)
		refuses("mia", pim.Own("mia"), pim.KindInvalid)
		refuses("mia", "g:none", pim.KindNotMember)
		refuses("mia", "nonsense", pim.KindInvalid)
		w.Close()
	}
}
