package storetest

import (
	"math"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// referring returns an entry of kind at seq that refers to the message at target.
func referring(kind pim.EntryKind, seq, target pim.Seq) pim.Entry {
	e := entry(direct, seq, seq, 1)
	e.Kind, e.Refers = kind, target
	switch kind {
	case pim.EntryReaction:
		e.Payload, e.Reaction = nil, "👍"
	case pim.EntryRecall, pim.EntryPin, pim.EntryErase:
		e.Payload = nil
	}
	return e
}

// foldOf returns what e alone makes of its message.
func foldOf(t *testing.T, e pim.Entry) client.StoredFold {
	t.Helper()
	f, ok := pim.FoldOf(&e)
	if !ok {
		t.Fatalf("%+v refers to nothing", e)
	}
	return client.StoredFold{Conversation: e.Conversation, Fold: f}
}

func folds(t *testing.T, s client.Store, from, to pim.Seq) []pim.Fold {
	t.Helper()
	list, err := s.Folds(t.Context(), direct, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Folds are merged, in whatever order they come, and stay.
func testFolds(t *testing.T, open func() client.Store) {
	back := referring(pim.EntryReaction, 7, 2)
	back.Removed = true
	parts := []client.StoredFold{
		foldOf(t, referring(pim.EntryEdit, 4, 2)),
		foldOf(t, referring(pim.EntryEdit, 5, 2)),
		foldOf(t, referring(pim.EntryReaction, 6, 2)),
		foldOf(t, back),
		foldOf(t, referring(pim.EntryPin, 8, 2)),
		{Conversation: direct, Fold: pim.Fold{Target: 2, Upto: 5, Edit: foldOf(t, referring(pim.EntryEdit, 5, 2)).Edit}},
	}
	want := pim.Fold{Target: 2}
	for i := range parts {
		want.Merge(&parts[i].Fold)
	}
	other := client.StoredFold{Conversation: direct, Fold: pim.Fold{Target: 9, Upto: 12, Pin: pim.Mark{Seq: 12, By: "bob", Time: 5}}}
	s := open()
	apply(t, s, client.Batch{Folds: []client.StoredFold{{Conversation: group, Fold: parts[0].Fold}}})
	slices.Reverse(parts)
	apply(t, s, client.Batch{Folds: append(parts[:3:3], other)})
	s = reopen(t, s, open)
	defer s.Close()
	apply(t, s, client.Batch{Folds: parts[2:]})
	equal(t, "folds", folds(t, s, 1, math.MaxUint64), []pim.Fold{want, other.Fold})
	equal(t, "the first", folds(t, s, 2, 8), []pim.Fold{want})
	equal(t, "none", len(folds(t, s, 3, 8)), 0)
	if list, err := s.Folds(t.Context(), "g:unknown", 1, 9); err != nil || len(list) > 0 {
		t.Errorf("of an unknown conversation: %v, %v", list, err)
	}
}

// A recall erases the payloads of its message and of the edits, in whatever order they are
// stored. Nothing else loses its payload.
func testRecall(t *testing.T, open func() client.Store) {
	s := open()
	message, kept := entry(direct, 2, 2, 1), entry(direct, 3, 3, 1)
	early, late, other := referring(pim.EntryEdit, 4, 2), referring(pim.EntryEdit, 5, 2), referring(pim.EntryEdit, 6, 3)
	recall := referring(pim.EntryRecall, 7, 2)
	apply(t, s, client.Batch{Entries: stored(message, early), Folds: []client.StoredFold{foldOf(t, early)}})
	apply(t, s, client.Batch{
		Entries: stored(kept, other, recall),
		Folds:   []client.StoredFold{foldOf(t, recall), foldOf(t, other)},
	})
	apply(t, s, client.Batch{Entries: stored(late), Folds: []client.StoredFold{foldOf(t, late)}})

	first := referring(pim.EntryRecall, 9, 1) // before the message is there
	apply(t, s, client.Batch{Entries: stored(first), Folds: []client.StoredFold{foldOf(t, first)}})
	apply(t, s, client.Batch{Entries: stored(entry(direct, 1, 1, 1))})
	s = reopen(t, s, open)
	defer s.Close()
	list, err := s.Range(t.Context(), direct, 1, 9, 9)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		erased := slices.Contains([]pim.Seq{1, 2, 4, 5}, e.Seq)
		if e.Erased != erased || erased && len(e.Payload) > 0 || !erased && string(e.Payload) != string(entry(direct, e.Seq, 1, 1).Payload) && e.Kind != pim.EntryRecall {
			t.Errorf("seq %d: erased %t, payload %q", e.Seq, e.Erased, e.Payload)
		}
	}
	equal(t, "entries", len(list), 8)
	equal(t, "fold", folds(t, s, 2, 2), []pim.Fold{foldOf(t, recall).Fold})
}

// When a conversation is taken back, folds go that have anything of what is lost.
func testFoldsRewind(t *testing.T, open func() client.Store) {
	s := open()
	gone, erased := referring(pim.EntryReaction, 9, 2), entry(direct, 11, 11, 1)
	erased.Payload, erased.Erased = nil, true
	parts := []client.StoredFold{
		foldOf(t, referring(pim.EntryEdit, 4, 1)),
		foldOf(t, referring(pim.EntryEdit, 5, 2)), foldOf(t, gone),
		{Conversation: direct, Fold: pim.Fold{Target: 3, Upto: 8, Pin: pim.Mark{Seq: 6, By: "bob"}}},
		{Conversation: group, Fold: foldOf(t, gone).Fold},
	}
	apply(t, s, client.Batch{Keep: []pim.Entry{referring(pim.EntryEdit, 12, 11)}}) // since an earlier time
	apply(t, s, client.Batch{Folds: parts, Entries: stored(referring(pim.EntryEdit, 8, 2), referring(pim.EntryEdit, 9, 8), entry(direct, 10, 10, 1), erased)})
	apply(t, s, client.Batch{Rewinds: []client.Rewind{{Conversation: direct, After: 7, Sender: "alice"}}})
	s = reopen(t, s, open)
	defer s.Close()
	equal(t, "folds", folds(t, s, 1, 99), []pim.Fold{parts[0].Fold})
	if list, err := s.Folds(t.Context(), group, 1, 99); err != nil || len(list) != 1 {
		t.Errorf("of the other conversation: %+v, %v", list, err)
	}
	former, err := s.Former(t.Context(), direct, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []pim.Seq
	for _, e := range former {
		seqs = append(seqs, e.Seq)
	}
	equal(t, "kept aside", seqs, []pim.Seq{8, 10}) // 9 and 12 refer to messages that are lost
}
