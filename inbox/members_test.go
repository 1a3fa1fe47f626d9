package inbox_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store/storetest"
)

// The members of a large group come in pages, and each once.
func TestMembersInPages(t *testing.T) {
	s := storetest.NewMemory()
	crowd(t, s, "g:crowd", 1201)
	all := 0
	req := inbox.MembersRequest{Conversation: "g:crowd"}
	for last := pim.UserID(""); ; req.After = last {
		page, err := inbox.New(s).Members(t.Context(), "m00007", req)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Members) > 250 {
			t.Errorf("a page of %d", len(page.Members))
		}
		for _, m := range page.Members {
			if m.User <= last {
				t.Fatalf("%s after %s", m.User, last)
			}
			last = m.User
			all++
		}
		if page.Next == "" {
			break
		}
		if page.Next != last {
			t.Fatalf("next is %s after %s", page.Next, last)
		}
	}
	if all != 1201 {
		t.Errorf("%d members", all)
	}
}
