package storetest

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// An erasure takes the payloads and the edits in folds of what a user wrote up to a seq, also of
// what comes in the same batch. It is remembered, and a later one takes its place. Nothing else
// changes.
func testErase(t *testing.T, open func() client.Store) {
	s := open()
	of := func(by pim.UserID, e pim.Entry) pim.Entry {
		e.Sender = by
		return e
	}
	edit, reaction := referring(pim.EntryEdit, 5, 1), referring(pim.EntryReaction, 6, 1)
	others := of("bob", referring(pim.EntryEdit, 7, 2))
	late := referring(pim.EntryEdit, 9, 8)
	elsewhere := entry(group, 1, 1, 1)
	apply(t, s, client.Batch{
		Entries: stored(entry(direct, 1, 1, 1), of("bob", entry(direct, 2, 2, 1)), edit, reaction, others, entry(direct, 8, 8, 1), late, elsewhere),
		Folds:   []client.StoredFold{foldOf(t, edit), foldOf(t, reaction), foldOf(t, others), foldOf(t, late)},
	})
	erase := referring(pim.EntryErase, 10, 4)
	apply(t, s, client.Batch{
		Entries:  stored(entry(direct, 3, 3, 1), erase),
		Erasures: []client.StoredErasure{{Conversation: direct, Erasure: pim.Erasure{By: "alice", UpTo: 4}}},
	})
	apply(t, s, client.Batch{Entries: stored(entry(direct, 4, 4, 1))}) // the engine would have erased it
	s = reopen(t, s, open)
	erased := func(want ...pim.Seq) {
		t.Helper()
		list, err := s.Range(t.Context(), direct, 1, 10, 10)
		if err != nil {
			t.Fatal(err)
		}
		var got []pim.Seq
		for _, e := range list {
			if e.Erased != (len(e.Payload) == 0) && e.Kind != pim.EntryReaction && e.Kind != pim.EntryErase {
				t.Errorf("seq %d: erased %t, payload %q", e.Seq, e.Erased, e.Payload)
			}
			if e.Erased {
				got = append(got, e.Seq)
			}
		}
		equal(t, "erased", got, want)
		equal(t, "entries", len(list), 10)
	}
	remembered := func(want ...client.StoredErasure) {
		t.Helper()
		snapshot, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(snapshot.Erasures, func(a, b client.StoredErasure) int {
			return cmp.Or(strings.Compare(string(a.Conversation), string(b.Conversation)), strings.Compare(string(a.By), string(b.By)))
		})
		equal(t, "remembered", snapshot.Erasures, want)
	}
	erased(1, 3, 5)
	equal(t, "folds", folds(t, s, 1, 9), []pim.Fold{foldOf(t, reaction).Fold, foldOf(t, others).Fold, foldOf(t, late).Fold})
	if list, err := s.Range(t.Context(), group, 1, 1, 1); err != nil || len(list) != 1 || list[0].Erased {
		t.Errorf("of the other conversation: %+v, %v", list, err)
	}
	remembered(client.StoredErasure{Conversation: direct, Erasure: pim.Erasure{By: "alice", UpTo: 4}})

	bobs := client.StoredErasure{Conversation: direct, Erasure: pim.Erasure{By: "bob", UpTo: 2}}
	apply(t, s, client.Batch{Erasures: []client.StoredErasure{{Conversation: direct, Erasure: pim.Erasure{By: "alice", UpTo: 9}}, bobs}})
	erased(1, 2, 3, 4, 5, 7, 8, 9)
	equal(t, "folds", folds(t, s, 8, 8), []pim.Fold{{Target: 8}})
	alices := client.StoredErasure{Conversation: direct, Erasure: pim.Erasure{By: "alice", UpTo: 3}} // the server has gone back
	apply(t, s, client.Batch{
		Keep:     []pim.Entry{erase},
		Rewinds:  []client.Rewind{{Conversation: direct, After: 9, Sender: "alice"}},
		Erasures: []client.StoredErasure{alices},
	})
	apply(t, s, client.Batch{Rewinds: []client.Rewind{{Conversation: direct, After: 3, Sender: "alice"}}})
	s = reopen(t, s, open)
	defer s.Close()
	remembered(alices, bobs)
	former, err := s.Former(t.Context(), direct, 0, 10)
	if err != nil || len(former) != 2 || former[0].Seq != reaction.Seq || former[1].Kind != pim.EntryErase || former[1].Refers != 3 {
		t.Errorf("kept aside: %+v, %v", former, err) // the erase is of what is left
	}
}
