package pebble

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func operand(version uint64, value string) []byte {
	o := make([]byte, operandLen(version, []byte(value)))
	putOperand(o, version, []byte(value))
	return o
}

// TestMergeAnyOrder merges operands in random order, newer and older mixed, and
// in two halves, as compactions do.
func TestMergeAnyOrder(t *testing.T) {
	merger := newMerger()
	merge := func(t *rapid.T, operands [][]byte) []byte {
		m, err := merger.Merge(nil, operands[0])
		for _, o := range operands[1:] {
			if err != nil {
				break
			}
			if rapid.Bool().Draw(t, "newer") {
				err = m.MergeNewer(o)
			} else {
				err = m.MergeOlder(o)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		result, closer, err := m.Finish(true)
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		return bytes.Clone(result)
	}
	rapid.Check(t, func(t *rapid.T) {
		operands := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []byte {
			return operand(rapid.SampledFrom([]uint64{1, 2, 127, 128, 1 << 40, ^uint64(0)}).Draw(t, "version"),
				rapid.SampledFrom([]string{"", "a", "ab", "b", "\x00", "\xff"}).Draw(t, "value"))
		}), 2, 10).Draw(t, "operands")
		want := slices.MaxFunc(operands, func(a, b []byte) int {
			va, xa, _ := parseOperand(a)
			vb, xb, _ := parseOperand(b)
			if va != vb {
				if va < vb {
					return -1
				}
				return 1
			}
			return bytes.Compare(xa, xb)
		})
		split := rapid.IntRange(1, len(operands)-1).Draw(t, "split")
		for _, got := range [][]byte{
			merge(t, operands),
			merge(t, rapid.Permutation(operands).Draw(t, "order")),
			merge(t, [][]byte{merge(t, operands[:split]), merge(t, operands[split:])}),
		} {
			if !bytes.Equal(got, want) {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	})
}

func TestMergeAllocatesNothing(t *testing.T) {
	merger := newMerger()
	operands := [][]byte{operand(3, "three"), operand(2, "two"), operand(1, "one")}
	allocs := testing.AllocsPerRun(1000, func() {
		m, err := merger.Merge(nil, operands[0])
		for _, o := range operands[1:] {
			if err == nil {
				err = m.MergeOlder(o)
			}
		}
		_, closer, _ := m.Finish(true)
		if err != nil || closer.Close() != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1 { // a collection, or the race detector, may empty the pool
		t.Errorf("%v allocations for a merge, want about none", allocs)
	}
}

// FuzzOperand checks that no operands make the merger panic, and that the order
// in which two come does not matter.
func FuzzOperand(f *testing.F) {
	merger := newMerger()
	result := func(a, b []byte) ([]byte, bool) {
		m, err := merger.Merge(nil, a)
		if err != nil || m.MergeOlder(b) != nil {
			return nil, false
		}
		r, closer, err := m.Finish(true)
		if err != nil {
			return nil, false
		}
		defer closer.Close()
		return bytes.Clone(r), true
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		ab, ok := result(a, b)
		ba, ok2 := result(b, a)
		if ok != ok2 {
			t.Fatalf("accepted in one order only: %v, %v", ok, ok2)
		}
		va, xa, _ := parseOperand(ab)
		vb, xb, _ := parseOperand(ba)
		if ok && (va != vb || !bytes.Equal(xa, xb)) {
			t.Fatalf("%q one way, %q the other", ab, ba)
		}
	})
}
