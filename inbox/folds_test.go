package inbox_test

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"pgregory.net/rapid"
)

// putFolds writes the folds of messages of c.
func putFolds(t interface{ Fatal(...any) }, s store.Store, c pim.ConversationID, folds ...inbox.Fold) {
	w := new(store.Write)
	for i := range folds {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Folds(c), Cell: store.Cell{
			Key: inbox.FoldKey(folds[i].Target), Version: uint64(folds[i].Upto), Value: folds[i].AppendValue(nil),
		}})
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
}

func edited(target, by pim.Seq, size int) inbox.Fold {
	return inbox.Fold{
		Fold:  pim.Fold{Target: target, Upto: by, Edit: pim.Edit{Seq: by, By: "x", Payload: bytes.Repeat([]byte{1}, size)}},
		Edits: []pim.Seq{by},
	}
}

func TestFoldCell(t *testing.T) {
	f := edited(7, 300, 3)
	f.Edits = []pim.Seq{8, 9, 300}
	cell := store.Cell{Key: inbox.FoldKey(7), Version: 300, Value: f.AppendValue(nil)}
	if got, err := inbox.ParseFold(cell); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range cell.Value {
		cut := cell
		if cut.Value = cell.Value[:n]; n > 0 && n < len(cell.Value)-1 {
			if got, err := inbox.ParseFold(cut); err == nil && reflect.DeepEqual(got, f) {
				t.Errorf("%x is read as the whole", cut.Value)
			}
		} else if n == 0 {
			if _, err := inbox.ParseFold(cut); pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("an empty cell: %v", err)
			}
		}
	}
}

// Pages of a log whose messages were changed, from either end, and pulls of the changes alone,
// settle every seq once, stay within their bytes, and hold the fold of each message with it.
func TestPagesHaveFolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.NewMemory()
		n := rapid.IntRange(1, 100).Draw(t, "entries")
		fill(t, s, "d:alice:x", n, 10, nil)
		size := rapid.SampledFrom([]int{10, 60_000}).Draw(t, "size")
		want := make(map[pim.Seq]bool)
		for seq := pim.Seq(1); seq <= pim.Seq(n); seq++ {
			if rapid.IntRange(0, 2).Draw(t, "changed") == 0 {
				want[seq] = true
				putFolds(t, s, "d:alice:x", edited(seq, pim.Seq(n), size))
			}
		}
		req := inbox.PullRequest{Conversation: "d:alice:x", From: 1, Limit: rapid.IntRange(1, 120).Draw(t, "limit")}
		req.NewestFirst = rapid.Bool().Draw(t, "newest first")
		req.Changes = !req.NewestFirst && rapid.Bool().Draw(t, "changes")
		entries, folds := make(map[pim.Seq]bool), make(map[pim.Seq]bool)
		for pages := 0; ; pages++ {
			p, err := inbox.New(s).Pull(ctx, "alice", req)
			if err != nil {
				t.Fatal(err)
			}
			if p.From > p.To {
				break
			}
			if pages > n {
				t.Fatalf("still at %d–%d after %d pages", p.From, p.To, pages)
			}
			bytes := 0
			for _, e := range p.Entries {
				if entries[e.Seq] || e.Seq < p.From || e.Seq > p.To {
					t.Fatalf("seq %d in the page %d–%d", e.Seq, p.From, p.To)
				}
				entries[e.Seq], bytes = true, bytes+len(e.Data)
			}
			for _, f := range p.Folds {
				got, err := wire.ParseFold(f.Data)
				if err != nil || got.Target != f.Seq || f.Seq < p.From || f.Seq > p.To || folds[f.Seq] {
					t.Fatalf("the fold of seq %d in the page %d–%d, %+v, %v", f.Seq, p.From, p.To, got, err)
				}
				if !req.Changes && !entries[f.Seq] {
					t.Fatalf("the fold of seq %d without its entry", f.Seq)
				}
				folds[f.Seq], bytes = true, bytes+len(f.Data)
			}
			if bytes > pim.MaxPageBytes && len(p.Entries)+len(p.Folds) > 2 {
				t.Fatalf("a page of %d bytes", bytes)
			}
			if req.NewestFirst {
				if req.To = p.From - 1; req.To == 0 {
					break
				}
			} else {
				req.From = p.To + 1
			}
		}
		if !reflect.DeepEqual(folds, want) || !req.Changes && len(entries) != n || req.Changes && len(entries) > 0 {
			t.Fatalf("%d entries of %d, folds of %v, want %v", len(entries), n, folds, want)
		}
	})
}

// A user who has left reads what was made of a message until then, and that it was recalled.
func TestFoldsAfterLeaving(t *testing.T) {
	s := storetest.NewMemory()
	m := inbox.Membership{Periods: []inbox.Period{{From: 2, To: 5}}}
	fill(t, s, "g:x", 9, 10, &m)
	reacted := inbox.Fold{Fold: pim.Fold{Target: 4, Upto: 8, Pin: pim.Mark{Seq: 7, By: "x"}, Reactions: []pim.Reaction{
		{Text: "+", User: "x", Seq: 5}, {Text: "+", User: "y", Seq: 6},
	}}}
	recalled := inbox.Fold{Fold: pim.Fold{Target: 5, Upto: 9, Recall: pim.Mark{Seq: 9, By: "x"}}}
	putFolds(t, s, "g:x", edited(1, 3, 5), edited(2, 4, 5), edited(3, 6, 5), reacted, recalled, edited(6, 8, 5))
	p, err := inbox.New(s).Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x"})
	if err != nil {
		t.Fatal(err)
	}
	var got []pim.Fold
	for _, f := range p.Folds {
		fold, err := wire.ParseFold(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fold)
	}
	second := edited(2, 4, 5)
	want := []pim.Fold{
		second.Fold,
		{Target: 3},
		{Target: 4, Reactions: []pim.Reaction{{Text: "+", User: "x", Seq: 5}}},
		{Target: 5, Recall: recalled.Recall},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// listed is a store that counts the bytes of the cells that it lists.
type listed struct {
	store.Store
	bytes int
}

func (s *listed) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := s.Store.List(ctx, p, after, limit)
	for _, c := range cells {
		s.bytes += len(c.Value)
	}
	return cells, err
}

// A pull reads few folds more than it returns: newest first, where the page ends early, and of
// changes, where the user may not read most of them.
func TestPullsReadFewFolds(t *testing.T) {
	const n, size = 300, 60_000
	s := &listed{Store: storetest.NewMemory()}
	joined := inbox.Membership{Periods: []inbox.Period{{From: 290}}}
	fill(t, s, "g:x", n, 10, &joined)
	fill(t, s, "d:alice:x", n, 10, nil)
	for seq := pim.Seq(1); seq <= n; seq++ {
		putFolds(t, s, "d:alice:x", edited(seq, n, size))
		putFolds(t, s, "g:x", edited(seq, n, size))
	}
	for name, req := range map[string]inbox.PullRequest{
		"newest first": {Conversation: "d:alice:x", NewestFirst: true, Limit: n},
		"changes":      {Conversation: "g:x", From: 1, Changes: true},
	} {
		s.bytes = 0
		p, err := inbox.New(s).Pull(ctx, "alice", req)
		if err != nil || len(p.Folds) < 10 {
			t.Fatalf("%s: %d folds, %v", name, len(p.Folds), err)
		}
		if most := pim.MaxPageBytes + 33*size; s.bytes > most {
			t.Errorf("%s: %d bytes were read for %d folds, at most %d should be", name, s.bytes, len(p.Folds), most)
		}
	}
}

// What came since the pull began is not in its folds: the user may have been removed meanwhile.
func TestFoldsOfWhatCameSince(t *testing.T) {
	s := storetest.NewMemory()
	fill(t, s, "d:alice:x", 9, 10, nil)
	putFolds(t, s, "d:alice:x", edited(4, 10, 5))
	p, err := inbox.New(s).Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:x"})
	if err != nil || len(p.Folds) != 1 {
		t.Fatalf("%+v, %v", p.Folds, err)
	}
	if f, err := wire.ParseFold(p.Folds[0].Data); err != nil || !reflect.DeepEqual(f, pim.Fold{Target: 4}) {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestChangesNewestFirstAreRefused(t *testing.T) {
	s := storetest.NewMemory()
	fill(t, s, "d:alice:x", 1, 1, nil)
	_, err := inbox.New(s).Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:x", Changes: true, NewestFirst: true})
	if pim.KindOf(err) != pim.KindInvalid {
		t.Error(err)
	}
}
