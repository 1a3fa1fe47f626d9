package inbox_test

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A walk over a list of large entries reads each of them about once, however they are paged.
func TestSyncReadsAboutWhatItShows(t *testing.T) {
	const n = 200
	mem := storetest.NewMemory()
	s := &reads{Store: mem}
	m := &inbox.Membership{Periods: []inbox.Period{{From: 1}}}
	lines := &store.Write{}
	for i := range n {
		c := pim.ConversationID(fmt.Sprintf("g:%03d", i))
		fill(t, mem, c, 1, pim.MaxPayload, m)
		lines.Cells = append(lines.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 1}.Cell(c)})
	}
	if err := store.Commit(ctx, mem, []*store.Write{lines}, store.Durable); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 3, 100, 1000} {
		s.bytes = 0
		listed := 0
		for req := (inbox.SyncRequest{User: "alice", Device: "phone", Limit: limit}); ; {
			page, err := inbox.New(s).Sync(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			listed += len(page.Summaries)
			if req.After = page.Next; req.After == "" {
				break
			}
		}
		if most := 2 * n * (pim.MaxPayload + 200); listed != n || s.bytes > most {
			t.Errorf("limit %d: %d conversations, %d KiB were read, at most %d are allowed", limit, listed, s.bytes>>10, most>>10)
		}
	}
}
