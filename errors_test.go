package pim_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/pim-im/pim"
)

// The text of an error names its kind once, however often the error was wrapped. The
// kind of a cause stays if it is another.
func TestAKindStandsOnce(t *testing.T) {
	conflict := pim.Errorf(pim.KindConflict, "in use")
	literal := func(k pim.Kind, err error) *pim.Error {
		return &pim.Error{Op: "open", Kind: k, Text: err.Error(), Err: err}
	}
	changed := pim.Errorf(pim.KindUnavailable, "the store: %w", conflict)
	changed.Kind = pim.KindConflict
	for _, c := range []struct {
		err  error
		want string
	}{
		{conflict, "in use (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w", conflict), "a: in use (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w, b", conflict), "a: in use, b (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w", pim.Errorf(pim.KindConflict, "b: %w", conflict)), "a: b: in use (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w", fmt.Errorf("b: %w", conflict)), "a: b: in use (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w", errors.Join(conflict, io.EOF)), "a: in use\nEOF (conflict)"},
		{pim.Errorf(pim.KindUnavailable, "a: %w", conflict), "a: in use (conflict) (unavailable)"},
		{literal(pim.KindConflict, conflict), "open: in use (conflict)"},
		{literal(pim.KindConflict, literal(pim.KindConflict, conflict)), "open: open: in use (conflict)"},
		{literal(pim.KindUnavailable, conflict), "open: in use (conflict) (unavailable)"},
		{pim.Errorf(pim.KindConflict, "a: %w", literal(pim.KindConflict, conflict)), "a: open: in use (conflict)"},
		{changed, "the store: in use (conflict)"},
		{pim.Errorf(pim.KindConflict, "a: %w", io.EOF), "a: EOF (conflict)"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("it is %q, want %q", got, c.want)
		}
		if pim.KindOf(c.err) == pim.KindConflict && c.err != error(changed) && !errors.Is(c.err, conflict) && !errors.Is(c.err, io.EOF) {
			t.Errorf("%q has lost its cause", c.err)
		}
	}
}
