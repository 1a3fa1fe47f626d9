package engine

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
)

// Fills are answered in their order, as soon as nothing is left to be filled for them.
func TestFills(t *testing.T) {
	a, b := &conversation{holes: holes{{From: 3, To: 5}}}, &conversation{holes: holes{{From: 1, To: 9, Lazy: true}}}
	var fs fills
	for id, f := range map[uint64]*fill{1: {c: a}, 2: {c: b}, 3: {c: a}, 4: {c: a}, 5: {c: a}} {
		f.ID = id
		fs = append(fs, f)
	}
	slices.SortFunc(fs, func(a, b *fill) int { return int(a.ID) - int(b.ID) })
	fs[2].Before, fs[4].Before = 3, 3 // nothing is missing below
	if got := fs.settle(a); len(got) != 0 {
		t.Errorf("the first of a has something to fill, and there are answers: %v", got)
	}
	if got, want := fs.conclude(fs.next(a), nil), (Filled{ID: 1, More: true}); got != want {
		t.Errorf("answer %v, want %v", got, want)
	}
	if got, want := fs.settle(a), []Filled{{ID: 3}}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	if got := fs.drop(99); len(got) != 0 {
		t.Errorf("none is forgotten, and there are answers: %v", got)
	}
	if got, want := fs.drop(4), []Filled{{ID: 5}}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	if got := fs.fail(a, nil); len(got) != 0 {
		t.Errorf("none of a waits, and there are answers: %v", got)
	}
	err := pim.Errorf(pim.KindUnavailable, "no")
	if got, want := fs.fail(nil, err), []Filled{{ID: 2, More: true, Err: err}}; !slices.Equal(got, want) || len(fs) != 0 {
		t.Errorf("answers %v, want %v; %d are left", got, want, len(fs))
	}
}
