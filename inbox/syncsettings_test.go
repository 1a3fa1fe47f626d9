package inbox_test

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A Summary says how far the user has read, and whether the user has marked the conversation as
// unread. A position beyond the conversation is none, but one beyond the line may be of entries
// that came since the line was read.
func TestSummaryTellsSettings(t *testing.T) {
	s := storetest.NewMemory()
	w := &store.Write{}
	set := func(c pim.Command) {
		cell := inbox.SettingCell(&pim.Setting{Command: c, At: 3}, 8)
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Settings("alice"), Cell: cell})
	}
	for _, c := range []pim.ConversationID{"g:a", "g:b", "g:c", "g:d"} {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 7, Count: 6}.Cell(c)})
	}
	set(pim.Command{Kind: pim.CommandRead, Subject: "g:a", Seq: 4, Count: 3})
	set(pim.Command{Kind: pim.CommandUnread, Subject: "g:a"})
	set(pim.Command{Kind: pim.CommandRead, Subject: "g:b", Seq: 8, Count: 3})
	set(pim.Command{Kind: pim.CommandUnread, Subject: "g:b", Removed: true})
	set(pim.Command{Kind: pim.CommandRead, Subject: "g:d", Seq: 9, Count: 8})
	commit(t, s, w)
	fill(t, s, "g:d", 9, 1, nil)
	page, err := inbox.New(s).Sync(ctx, inbox.SyncRequest{User: "alice", Device: "phone"})
	if err != nil || len(page.Summaries) != 4 {
		t.Fatalf("%+v, %v", page, err)
	}
	for i, want := range []string{"4 3 3 true 3", "0 0 0 false 3", "0 0 0 false 0", "7 6 3 false 0"} {
		sum := page.Summaries[i]
		if got := fmt.Sprint(sum.Read, sum.ReadCount, sum.ReadAt, sum.Marked, sum.MarkedAt); got != want {
			t.Errorf("%s: %s, want %s", sum.Conversation, got, want)
		}
	}
}
