package pebble

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

func valueOperand(version uint64, value string) []byte {
	o := make([]byte, operandLen(version, []byte(value)))
	putOperand(o, version, []byte(value))
	return o
}

func forgetOperand(version uint64) []byte {
	o := make([]byte, forgetLen(version))
	putForget(o, version)
	return o
}

func parsed(t interface{ Fatal(...any) }, data []byte) operand {
	o, err := parseOperand(data)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// same reports whether two operands say the same. Their bytes may differ if their versions
// are above store.MaxVersion.
func same(a, b operand) bool {
	return a.version == b.version && a.forgets == b.forgets && bytes.Equal(a.value, b.value)
}

// TestMergeAnyOrder merges operands in random order, newer and older ones mixed, and in
// two halves, as compactions do.
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
			version := rapid.SampledFrom([]uint64{1, 2, 127, 128, 1 << 40, store.MaxVersion, ^uint64(0)}).Draw(t, "version")
			if rapid.IntRange(0, 3).Draw(t, "forget") == 0 {
				return forgetOperand(version)
			}
			return valueOperand(version, rapid.SampledFrom([]string{"", "a", "ab", "b", "\x00", "\xff"}).Draw(t, "value"))
		}), 2, 10).Draw(t, "operands")
		want := slices.MaxFunc(operands, func(a, b []byte) int {
			x, y := parsed(t, a), parsed(t, b)
			switch {
			case x.version != y.version:
				return cmp.Compare(x.version, y.version)
			case x.forgets && !y.forgets:
				return 1
			case y.forgets && !x.forgets:
				return -1
			}
			return bytes.Compare(x.value, y.value)
		})
		split := rapid.IntRange(1, len(operands)-1).Draw(t, "split")
		for _, got := range [][]byte{
			merge(t, operands),
			merge(t, rapid.Permutation(operands).Draw(t, "order")),
			merge(t, [][]byte{merge(t, operands[:split]), merge(t, operands[split:])}),
		} {
			if !same(parsed(t, got), parsed(t, want)) {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	})
}

func TestMergeAllocatesNothing(t *testing.T) {
	merger := newMerger()
	operands := [][]byte{valueOperand(3, "three"), valueOperand(2, "two"), valueOperand(1, "one")}
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
	if allocs > 1 { // a garbage collection, or the race detector, may empty the pool
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
	f.Add(valueOperand(7, "v"), forgetOperand(7))
	f.Add(forgetOperand(1<<40), valueOperand(1, ""))
	f.Add([]byte{0}, []byte{0, 0})
	f.Add([]byte{0, 1, 1}, []byte{1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		ab, ok := result(a, b)
		ba, ok2 := result(b, a)
		if ok != ok2 {
			t.Fatalf("accepted in one order only: %v, %v", ok, ok2)
		}
		if !ok {
			return
		}
		if !same(parsed(t, ab), parsed(t, ba)) {
			t.Fatalf("%q one way, %q the other", ab, ba)
		}
		for _, data := range [][]byte{a, b} { // neither a nor b wins over the result
			if o, r := parsed(t, data), parsed(t, ab); o.beats(&r) {
				t.Fatalf("%q wins over the result %q", data, ab)
			}
		}
	})
}
