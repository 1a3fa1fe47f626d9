package engine

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// What is missing is the same, seq by seq, as in a list of all seqs, whatever is jumped
// over, filled and taken back.
func TestHoles(t *testing.T) {
	const (
		there = iota
		eager
		lazy
	)
	rapid.Check(t, func(t *rapid.T) {
		var hs holes
		model := []int{there} // by seq; the position is the last one
		known := func() pim.Seq { return pim.Seq(len(model) - 1) }
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := slices.Clone(hs)
			kept := hs
			from := pim.Seq(rapid.IntRange(1, len(model)).Draw(t, "from"))
			to := from + pim.Seq(rapid.IntRange(0, 20).Draw(t, "seqs"))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0: // a jump, and the page behind it
				kind := rapid.IntRange(eager, lazy).Draw(t, "kind")
				h := Hole{From: known() + 1, Lazy: kind == lazy}
				for range rapid.IntRange(1, 20).Draw(t, "wide") {
					model = append(model, kind)
				}
				h.To = known()
				hs = hs.with(h)
				for range rapid.IntRange(1, 5).Draw(t, "page") {
					model = append(model, there)
				}
			case 1: // a page
				hs = hs.without(from, to)
				for seq := from; seq <= min(to, known()); seq++ {
					model[seq] = there
				}
			case 2: // the server has less
				end := min(from, known())
				hs = soundHoles(hs.without(end, unknownSeq), end)
				model = model[:end+1]
				model[end] = there
			case 3: // the server can't read it
				hs = hs.lazy()
				for seq := range model {
					if model[seq] == eager {
						model[seq] = lazy
					}
				}
			case 4: // the user sent one of it
				if hs.miss(from, from) {
					hs = hs.open(from)
					if model[from] == lazy {
						model[from] = eager
					}
				}
			}
			if !slices.Equal(kept, before) {
				t.Fatalf("holes that a store may keep were changed: %v, before %v", kept, before)
			}
			if sound := soundHoles(hs, known()); !slices.Equal(sound, hs) {
				t.Fatalf("%v below %d: only %v make sense", hs, known(), sound)
			}
			ackable := known()
			for seq := known(); seq > 0; seq-- {
				if hs.miss(seq, seq) != (model[seq] != there) {
					t.Fatalf("%v: misses %d: %v", hs, seq, hs.miss(seq, seq))
				}
				if model[seq] == eager {
					ackable = seq - 1
				}
			}
			if got := hs.ackable(known()); got != ackable {
				t.Fatalf("%v below %d: ackable up to %d, want %d", hs, known(), got, ackable)
			}
			top := func(below pim.Seq, kinds ...int) (top pim.Seq) {
				for seq := 1; seq < len(model) && pim.Seq(seq) < below; seq++ {
					if slices.Contains(kinds, model[seq]) {
						top = pim.Seq(seq)
					}
				}
				return top
			}
			h, ok := hs.eager()
			if want := top(unknownSeq, eager); h.To != want || ok != (want != 0) || h.Lazy {
				t.Fatalf("%v: the topmost eager one is %v, %v, want one up to %d", hs, h, ok, want)
			}
			h, ok = hs.below(from)
			if want := top(from, eager, lazy); h.To != want || ok != (want != 0) {
				t.Fatalf("%v: the topmost below %d is %v, %v, want one up to %d", hs, from, h, ok, want)
			}
			h, ok = hs.below(0)
			if want := top(unknownSeq, eager, lazy); h.To != want || ok != (want != 0) {
				t.Fatalf("%v: the topmost is %v, %v, want one up to %d", hs, h, ok, want)
			}
			if got := hs.skipped(from); got != 0 && (model[got] != lazy || got >= from) {
				t.Fatalf("%v: skipped below %d is %d", hs, from, got)
			}
			if got := hs.miss(from, to); got != (top(to+1, eager, lazy) >= from) {
				t.Fatalf("%v: misses some of %d..%d: %v", hs, from, to, got)
			}
		}
	})
}

// What a store gives back may be damaged: holes that overlap, end before they begin, or
// lie above the position are dropped.
func TestUnsoundHoles(t *testing.T) {
	got := soundHoles([]Hole{{From: 0, To: 2}, {From: 3, To: 5}, {From: 5, To: 7}, {From: 9, To: 8}, {From: 9, To: 9, Lazy: true}, {From: 12, To: 20}}, 20)
	if want := (holes{{From: 3, To: 5}, {From: 9, To: 9, Lazy: true}}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSkipped(t *testing.T) {
	hs := holes{{From: 2, To: 4, Lazy: true}, {From: 6, To: 8, Lazy: true}, {From: 10, To: 12}}
	for before, want := range map[pim.Seq]pim.Seq{4: 0, 5: 4, 8: 4, 9: 8, 20: 8} {
		if got := hs.skipped(before); got != want {
			t.Errorf("skipped below %d: %d, want %d", before, got, want)
		}
	}
}
