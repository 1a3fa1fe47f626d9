package varint_test

import (
	"errors"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"pgregory.net/rapid"
)

// Values are read in the order in which they were appended. Bytes that are cut short are
// malformed, wherever they are cut.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(rapid.Uint64()).Draw(t, "numbers")
		times := rapid.SliceOf(rapid.Int64()).Draw(t, "times")
		texts := rapid.SliceOf(rapid.String()).Draw(t, "texts")
		var e varint.Encoder
		for _, n := range numbers {
			e.Number(n)
		}
		for _, v := range times {
			e.Times(pim.Millis(v))
		}
		for _, s := range texts {
			e.Text(s)
		}
		read := func(b []byte) error {
			d := varint.Decoder{B: b}
			for _, want := range numbers {
				if n := d.Number(); d.Err == nil && n != want {
					t.Fatalf("%d became %d", want, n)
				}
			}
			for _, want := range times {
				if v := d.Time(); d.Err == nil && int64(v) != want {
					t.Fatalf("%d became %d", want, v)
				}
			}
			for _, want := range texts {
				if s := d.Text(); d.Err == nil && s != want {
					t.Fatalf("%q became %q", want, s)
				}
			}
			return d.End()
		}
		if err := read(e.B); err != nil {
			t.Fatal(err)
		}
		if err := read(append(e.B, 0)); !errors.Is(err, varint.ErrMalformed) {
			t.Fatalf("with a byte too many: %v", err)
		}
		if len(e.B) == 0 {
			return
		}
		cut := rapid.IntRange(0, len(e.B)-1).Draw(t, "cut")
		if err := read(e.B[:cut]); !errors.Is(err, varint.ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", cut, len(e.B), err)
		}
	})
}
