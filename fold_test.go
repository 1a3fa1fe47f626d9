package pim_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"pgregory.net/rapid"
)

// foldCase is a worked case of testdata/folds.json: the entries that refer to alice's message at
// seq 1, or erase, in the order of the log, and what they have made of it.
type foldCase struct {
	Name    string
	Entries []struct {
		Seq      pim.Seq
		Kind     string
		Sender   pim.UserID
		Refers   pim.Seq // of an erase
		Payload  string
		Reaction string
		Removed  bool
	}
	Want struct {
		Payload   *string // of the last edit; none: it was not edited
		Recalled  bool
		Erased    bool // the message's own payload
		Pinned    bool
		Reactions map[string][]pim.UserID // users in order, by text
	}
}

func (c *foldCase) folds(t *testing.T) (folds []pim.Fold) {
	kinds := map[string]pim.EntryKind{}
	for _, k := range []pim.EntryKind{pim.EntryEdit, pim.EntryRecall, pim.EntryReaction, pim.EntryPin} {
		kinds[k.String()] = k
	}
	for _, e := range c.Entries {
		if e.Kind == pim.EntryErase.String() {
			continue
		}
		f, ok := pim.FoldOf(&pim.Entry{
			Seq: e.Seq, Refers: 1, Kind: kinds[e.Kind], Sender: e.Sender, Payload: []byte(e.Payload), Reaction: e.Reaction, Removed: e.Removed,
			Server: 1000 + pim.Millis(e.Seq),
		})
		if !ok {
			t.Fatalf("%s: a %s refers to nothing", c.Name, e.Kind)
		}
		folds = append(folds, f)
	}
	return folds
}

// erasures returns the erasures among the entries of c.
func (c *foldCase) erasures() (all []pim.Erasure) {
	for _, e := range c.Entries {
		if x, ok := pim.ErasureOf(&pim.Entry{Kind: pim.EntryErase, Sender: e.Sender, Refers: e.Refers}); ok && e.Kind == pim.EntryErase.String() {
			all = append(all, x)
		}
	}
	return all
}

// Worked cases for every SDK: whatever the order of the entries, they come to the same.
func TestFoldCases(t *testing.T) {
	const path = "testdata/folds.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cases []foldCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		folds, erasures := c.folds(t), c.erasures()
		message := pim.Entry{Kind: pim.EntryMessage, Seq: 1, Sender: "alice", Payload: []byte("hi")}
		erased := slices.ContainsFunc(erasures, func(x pim.Erasure) bool { return x.Erases(&message) })
		if erased != c.Want.Erased {
			t.Errorf("%s: erased %t", c.Name, erased)
		}
		for round := range 20 {
			got := pim.Fold{Target: 1}
			for _, f := range folds {
				for _, x := range erasures {
					if round%2 == 0 { // they are known before
						x.Unfold(&f)
					}
				}
				got.Merge(&f)
			}
			for _, x := range erasures {
				x.Unfold(&got)
			}
			if c.Want.Payload == nil && got.Edit.Seq != 0 || c.Want.Payload != nil && string(got.Edit.Payload) != *c.Want.Payload {
				t.Errorf("%s: edited to %q at %d", c.Name, got.Edit.Payload, got.Edit.Seq)
			}
			if got.Pinned() != c.Want.Pinned || (got.Recall.Seq != 0) != c.Want.Recalled {
				t.Errorf("%s: pinned %v, recalled at %d", c.Name, got.Pinned(), got.Recall.Seq)
			}
			reactions := map[string][]pim.UserID{}
			for _, r := range got.InForce() {
				reactions[r.Text] = append(reactions[r.Text], r.User)
			}
			if len(reactions)+len(c.Want.Reactions) > 0 && !reflect.DeepEqual(reactions, c.Want.Reactions) {
				t.Errorf("%s: reactions %v, want %v", c.Name, reactions, c.Want.Reactions)
			}
			rand.Shuffle(len(folds), func(i, j int) { folds[i], folds[j] = folds[j], folds[i] })
		}
		conformance.Ran(t, path, c.Name)
	}
}

// A log's entries refer to one message. A server has folded the log up to some seqs, and
// devices have single entries. Whatever is merged with whatever, in whatever order and however
// often, comes to what the log says up to the last seq that any of it has.
func TestFoldsMergeInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		users := []pim.UserID{"alice", "bob", "carol"}
		var parts []pim.Fold // of single entries, and of the server
		var log pim.Fold
		log.Target = 1
		n := rapid.IntRange(1, 12).Draw(t, "entries")
		for seq := pim.Seq(2); seq < pim.Seq(2+n); seq++ {
			e := pim.Entry{
				Seq: seq, Refers: 1, Sender: rapid.SampledFrom(users).Draw(t, "sender"), Server: pim.Millis(seq),
				Kind: rapid.SampledFrom([]pim.EntryKind{pim.EntryEdit, pim.EntryReaction, pim.EntryReaction, pim.EntryReaction, pim.EntryPin}).Draw(t, "kind"),
			}
			switch e.Kind {
			case pim.EntryEdit:
				e.Payload = []byte{byte('a' + seq)}
			case pim.EntryReaction:
				e.Reaction = rapid.SampledFrom([]string{"+", "-"}).Draw(t, "text")
				fallthrough
			case pim.EntryPin:
				e.Removed = rapid.Bool().Draw(t, "removed")
			}
			if seq == pim.Seq(1+n) && rapid.IntRange(0, 4).Draw(t, "recall") == 0 {
				e = pim.Entry{Seq: seq, Refers: 1, Kind: pim.EntryRecall, Sender: e.Sender}
			}
			f, _ := pim.FoldOf(&e)
			log.Merge(&f)
			log.Upto = seq
			log.Merge(&pim.Fold{Target: 1}) // drops what was taken back
			if rapid.Bool().Draw(t, "folded") {
				base := log
				base.Reactions = slices.Clone(log.Reactions)
				parts = append(parts, base)
			}
			parts = append(parts, f)
		}
		want := shown(log)
		order := rapid.Permutation(slices.Concat(parts, parts)).Draw(t, "order")
		// Half of them are merged among themselves first.
		half := len(order) / 2
		left, right := pim.Fold{Target: 1}, pim.Fold{Target: 1}
		for i := range order {
			into := &left
			if i >= half {
				into = &right
			}
			into.Merge(&order[i])
		}
		left.Merge(&right)
		if got := shown(left); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\n of %+v\nwant %+v", got, order, want)
		}
	})
}

// shown returns what of f is displayed.
func shown(f pim.Fold) any {
	pin := f.Pin
	if !f.Pinned() {
		pin = pim.Mark{}
	}
	reactions := f.InForce()
	if len(reactions) == 0 {
		reactions = nil
	}
	return []any{f.Edit, f.Recall, pin, reactions}
}

func TestReactionsAreValid(t *testing.T) {
	for text, want := range map[string]pim.Kind{
		"👍": 0, "👩‍👩‍👧‍👦": 0, "+1": 0, "": pim.KindInvalid, "a\nb": pim.KindInvalid, "\xff": pim.KindInvalid,
		"0123456789012345678901234567890123": pim.KindTooLarge,
	} {
		err := pim.ValidateReaction(text)
		if want == 0 && err != nil || want != 0 && pim.KindOf(err) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
