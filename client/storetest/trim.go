package storetest

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Retention takes what is below a conversation's front: entries, folds, and what is kept aside. In
// a Batch it comes last. When the newest entry was written is still known.
func testTrim(t *testing.T, open func() client.Store) {
	s := open()
	var entries []client.Stored
	for seq := pim.Seq(1); seq <= 5; seq++ {
		e := entry(direct, seq, seq, 900_000)
		e.Server += pim.Millis(seq)
		entries = append(entries, client.Stored{Entry: e, Number: uint64(seq)})
	}
	entries = append(entries, client.Stored{Entry: entry(group, 1, 1, 1), Number: 6})
	fold := func(seq pim.Seq) client.StoredFold {
		return client.StoredFold{Conversation: direct, Fold: pim.Fold{Target: seq, Upto: 5, Edit: pim.Edit{Seq: 5, Payload: []byte("x")}}}
	}
	row := client.ConversationRow{ID: direct, Known: 5, Newest: 5, Count: 5, Lost: 4}
	apply(t, s, client.Batch{
		Conversations: []client.ConversationRow{row, {ID: group, Known: 1, Newest: 1}},
		Entries:       entries, Folds: []client.StoredFold{fold(1), fold(4)},
		Keep: []pim.Entry{entry(direct, 7, 7, 1), entry(direct, 3, 3, 1), entry(group, 3, 3, 1)},
	})
	look := func() string {
		t.Helper()
		below, err := s.Below(t.Context(), direct, 99, 10)
		if err != nil {
			t.Fatal(err)
		}
		folds, err := s.Folds(t.Context(), direct, 1, 99)
		if err != nil {
			t.Fatal(err)
		}
		former, err := s.Former(t.Context(), direct, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.Below(t.Context(), group, 99, 10)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Conversation(t.Context(), direct)
		if err != nil {
			t.Fatal(err)
		}
		seqs := func(entries []pim.Entry) (seqs []pim.Seq) {
			for _, e := range entries {
				seqs = append(seqs, e.Seq)
			}
			return seqs
		}
		var targets []pim.Seq
		for _, f := range folds {
			targets = append(targets, f.Target)
		}
		return fmt.Sprint(seqs(below), targets, seqs(former), seqs(other), got.Front, got.Lost, got.Last.Seq, got.GoneAt)
	}
	equal(t, "before", look(), "[1 2 3 4 5] [1 4] [3 7] [1] 0 4 5 0")
	row.Front = 4
	late := client.Stored{Entry: entry(direct, 2, 2, 1), Number: 7} // in the same transaction
	apply(t, s, client.Batch{
		Conversations: []client.ConversationRow{row}, Entries: []client.Stored{late}, Folds: []client.StoredFold{fold(2)},
		Trims: []client.Trim{{Conversation: direct, Front: 4, Former: 4}},
	})
	equal(t, "up to 3", look(), "[4 5] [4] [7] [1] 4 4 5 1000003")
	row.Front, row.Lost = 6, 0
	apply(t, s, client.Batch{
		Conversations: []client.ConversationRow{row}, Trims: []client.Trim{{Conversation: direct, Front: 6, Former: 8}},
	})
	s = reopen(t, s, open)
	defer s.Close()
	equal(t, "all", look(), "[] [] [] [1] 6 0 0 1000005")
	equal(t, "kept aside", load(t, s).Former, []pim.ConversationID{group})
	row.Known = 9
	apply(t, s, client.Batch{Conversations: []client.ConversationRow{row}}) // its GoneAt says nothing
	equal(t, "a later row", look(), "[] [] [] [1] 6 0 0 1000005")
}
