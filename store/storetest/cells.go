package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

func (s *suite) cellsOnly() {
	s.holds("p", "k", 0, "")
	s.cells(cell("p", "k", 5, "five"))
	s.holds("p", "k", 5, "five")
	s.holds("p", "other", 0, "")
	s.holds("other", "k", 0, "")
	s.cells(cell("p", "k", 6, "")) // an empty value is a value
	s.holds("p", "k", 6, "")
	s.cells(cell("p", "zero", 0, "asks for nothing"))
	s.holds("p", "zero", 0, "")
	s.lists("p", "", 10, "k=6")
	w := &store.Write{Cells: []store.CellWrite{cell("p", "relaxed", 1, "v")}}
	if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Relaxed); err != nil || w.Err != nil {
		s.Fatalf("relaxed commit: %v, %v", err, w.Err)
	}
	s.holds("p", "relaxed", 1, "v")
	s.commits(w) // once more: it is as the caller made it
	s.commits(w)
	s.holds("p", "relaxed", 1, "v")
	s.lists("p", "", 10, "k=6", "relaxed=1")
	if c := &w.Cells[0]; len(w.Cells) != 1 || c.Partition != "p" || c.Key != "relaxed" || c.Version != 1 || string(c.Value) != "v" {
		s.Errorf("the store has changed the write: %+v", w)
	}
}

func (s *suite) highestVersion() {
	s.cells(cell("p", "k", 10, "ten"))
	s.cells(cell("p", "k", 3, "three, late"))
	s.holds("p", "k", 10, "ten")
	s.cells(cell("p", "k", 12, "twelve"), cell("p", "k", 11, "eleven"))
	s.holds("p", "k", 12, "twelve")
	s.cells(cell("p", "k", store.MaxVersion-1, "huge"))
	s.cells(cell("p", "k", 1<<62, "less"))
	s.holds("p", "k", store.MaxVersion-1, "huge")
	s.cells(cell("p", "k", store.MaxVersion, "the last"))
	s.holds("p", "k", store.MaxVersion, "the last")
	s.lists("p", "", 10, "k=9223372036854775807")
	for _, version := range []uint64{store.MaxVersion + 1, ^uint64(0)} {
		w := &store.Write{Cells: []store.CellWrite{cell("p", "k", version, "beyond"), cell("p", "other", 1, "")}}
		s.invalid(fmt.Sprintf("a version of %d", version), w, store.Durable)
	}
	s.holds("p", "k", store.MaxVersion, "the last")
	s.holds("p", "other", 0, "")
}

func (s *suite) equalVersions() {
	for _, values := range [][]string{{"a", "b"}, {"b", "a"}, {"", "a"}, {"a", ""}, {"a", "ab"}, {"b", "ab"}, {"\xff", "a"}} {
		p := store.Partition(strings.Join(values, "|"))
		for _, v := range values {
			s.cells(cell(p, "k", 7, v))
		}
		s.holds(p, "k", 7, slices.Max(values))
	}
}

// cellsCommute writes the same cells in two orders, with repeats, and in commits of
// different sizes. Both orders end in the state that the contract's rule gives.
func (s *suite) cellsCommute() {
	round := 0
	rapid.Check(s.TB, func(t *rapid.T) {
		s := &suite{TB: t, ctx: s.ctx, store: s.store}
		round++
		writes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) store.CellWrite {
			return cell("", rapid.SampledFrom([]string{"k", "l", "m"}).Draw(t, "key"),
				rapid.Uint64Range(1, 4).Draw(t, "version"), rapid.SampledFrom([]string{"", "a", "b", "aa"}).Draw(t, "value"))
		}), 1, 12).Draw(t, "writes")
		want := map[string]store.Cell{}
		for _, w := range writes {
			if old := want[w.Key]; w.Version > old.Version || w.Version == old.Version && string(w.Value) > string(old.Value) {
				want[w.Key] = w.Cell
			}
		}
		for i := range 2 {
			p := store.Partition(fmt.Sprintf("%d in order %d", round, i))
			order := rapid.Permutation(slices.Concat(writes, writes[:i*len(writes)])).Draw(t, "order")
			for len(order) > 0 {
				n := rapid.IntRange(1, len(order)).Draw(t, "in one commit")
				cells := slices.Clone(order[:n])
				for j := range cells {
					cells[j].Partition = p
				}
				s.cells(cells...)
				order = order[n:]
			}
			for _, c := range want {
				s.holds(p, c.Key, c.Version, string(c.Value))
			}
			cells, err := s.store.List(s.ctx, p, "", 10)
			if err != nil || len(cells) != len(want) {
				s.Fatalf("list: %v, %v; want %d cells", cells, err, len(want))
			}
		}
	})
}

// oddKeys are keys of odd bytes, ascending.
var oddKeys = []string{
	"\x00", "\x00\x00", "\x00\xff", "\x01", " ", "A", "a", "a\x00", "a\x00b", "ab", "a\xff", "b",
	"d:alice:bob", "d:alice:bob[]`^{|}", "é", "日本", "\xfe\xff", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff",
}

func (s *suite) listPages() {
	keys := append([]string{strings.Repeat("\x00", store.MaxKeyBytes)}, oddKeys...)
	keys = append(keys, strings.Repeat("\xff", store.MaxKeyBytes))
	slices.Sort(keys)
	var all []string
	for i, k := range keys {
		all = append(all, fmt.Sprintf("%s=%d", k, i+1))
	}
	for i := range keys {
		j := (i*7 + 3) % len(keys) // the cells are not written in the order of their keys
		s.cells(cell("p", keys[j], uint64(j+1), "v"))
	}
	s.lists("p", "", 1000, all...)
	for limit := 1; limit <= len(keys)+1; limit += 5 {
		for after, i := "", 0; i <= len(keys); i += limit {
			page := all[i:min(i+limit, len(keys))]
			s.lists("p", after, limit, page...)
			if len(page) > 0 {
				after = keys[i+len(page)-1]
			}
		}
	}
	s.lists("p", "a\x00a", 2, "a\x00b=10", "ab=11") // the key in after does not exist
	s.lists("none", "", 10)
	for _, limit := range []int{0, -1} {
		if _, err := s.store.List(s.ctx, "p", "", limit); pim.KindOf(err) != pim.KindInvalid {
			s.Errorf("list with limit %d: %v, want KindInvalid", limit, err)
		}
	}
}

// oddNames returns names of odd bytes, some of which are prefixes of others.
func oddNames() []string {
	return append(slices.Clone(oddKeys), "members/g:x", "members/g:xy", "members/g:x/",
		strings.Repeat("n", store.MaxNameBytes), strings.Repeat("\xff", store.MaxNameBytes),
		strings.Repeat("n", store.MaxNameBytes-1))
}

func (s *suite) partitionsApart() { s.apart(oddNames()) }

// passingApart is partitionsApart for passing partitions. It leaves out the names that are
// too long once PassingPrefix is added.
func (s *suite) passingApart() {
	s.apart(slices.DeleteFunc(oddNames(), func(n string) bool { return len(n) >= store.MaxNameBytes }))
}

func (s *suite) apart(names []string) {
	for i, p := range names {
		var cells []store.CellWrite
		for _, k := range []string{"a", "b\x00", "\xff"} {
			cells = append(cells, cell(store.Partition(p), k, uint64(i+1), p))
		}
		s.cells(cells...)
	}
	for i, p := range names {
		v := uint64(i + 1)
		s.lists(store.Partition(p), "", 100, fmt.Sprintf("a=%d", v), fmt.Sprintf("b\x00=%d", v), fmt.Sprintf("\xff=%d", v))
		s.lists(store.Partition(p), "a", 1, fmt.Sprintf("b\x00=%d", v))
		s.holds(store.Partition(p), "\xff", v, p)
		s.holds(store.Partition(p), "b", 0, "")
	}
}

func (s *suite) logsApart() {
	names := oddNames()
	var writes []*store.Write
	for i, name := range names {
		w := appendTo(store.Log(name), 0)
		for n := range i + 1 {
			w.Records = append(w.Records, fmt.Appendf(nil, "%d of %q", n+1, name))
		}
		writes = append(writes, w)
	}
	s.commits(writes...)
	for i, name := range names {
		s.ends(store.Log(name), pim.Seq(i+1))
		s.reads(store.Log(name), 1, 0, much, writes[i].Records...)
	}
	// A partition may have a log's name.
	s.holds(store.Partition(names[0]), "a", 0, "")
	s.lists(store.Partition(names[0]), "", 1)
}

// expiry checks that cells stay for their lifetime. Afterwards the engine may drop them when
// it chooses. All lifetimes are long, so that the test does not depend on a clock.
func (s *suite) expiry() {
	expiring := func(key string, version uint64, value string, lifetime time.Duration) store.CellWrite {
		c := cell("p", key, version, value)
		c.Lifetime = lifetime
		return c
	}
	s.cells(
		expiring("hour", 1, "v", time.Hour),
		expiring("week", 2, "w", 7*24*time.Hour),
		expiring("year", 3, "x", 360*24*time.Hour),
		cell("p", "plain", 4, "y"),
	)
	s.holds("p", "hour", 1, "v")
	s.holds("p", "week", 2, "w")
	s.holds("p", "year", 3, "x")
	s.lists("p", "", 10, "plain=4") // expiring cells are not listed
	// The highest version wins whatever the lifetime of each write.
	s.cells(expiring("week", 5, "newer, shorter", 24*time.Hour))
	s.holds("p", "week", 5, "newer, shorter")
	s.cells(expiring("week", 4, "older, longer", 30*24*time.Hour))
	s.holds("p", "week", 5, "newer, shorter")
	s.cells(expiring("week", 5, "newer, shorter", 60*24*time.Hour)) // once more
	s.holds("p", "week", 5, "newer, shorter")
	for _, wrong := range []time.Duration{store.MaxLifetime + 1, time.Millisecond - 1, -time.Hour} {
		s.invalid(fmt.Sprintf("a lifetime of %v", wrong), &store.Write{Cells: []store.CellWrite{expiring("wrong", 1, "v", wrong)}}, store.Durable)
	}
}

func (s *suite) badSizes() {
	long := strings.Repeat("x", store.MaxNameBytes+1)
	write := func(cells ...store.CellWrite) *store.Write { return &store.Write{Cells: cells} }
	s.invalid("an empty log name", appendTo("", 0, "x"), store.Durable)
	s.invalid("a long log name", appendTo(store.Log(long), 0, "x"), store.Durable)
	s.invalid("a large record", appendTo("log", 0, strings.Repeat("x", store.MaxRecordBytes+1)), store.Durable)
	s.invalid("an empty partition name", write(cell("", "k", 1, "")), store.Durable)
	s.invalid("a long partition name", write(cell(store.Partition(long), "k", 1, "")), store.Durable)
	s.invalid("an empty key", write(cell("p", "", 1, "")), store.Durable)
	s.invalid("a long key", write(cell("p", strings.Repeat("x", store.MaxKeyBytes+1), 1, "")), store.Durable)
	s.invalid("a large value", write(cell("p", "k", 1, strings.Repeat("x", store.MaxValueBytes+1))), store.Durable)
	s.invalid("a relaxed append", appendTo("log", 0, "x"), store.Relaxed)
	s.invalid("a relaxed raise", raise("log"), store.Relaxed)
	s.invalid("a raise of the fence of a log without a name", raise(""), store.Durable)
	both := appendTo("log", 0, "x")
	both.Raise = true
	s.invalid("an append and a raise", both, store.Durable)

	// A bad write is refused as a whole. The good write beside it is carried out.
	bad := appendTo("log", 0, "x")
	bad.Cells = []store.CellWrite{cell("p", "k", 1, "v"), cell("p", "", 1, "v")}
	good := appendTo("good", 0, "y")
	if err := store.Commit(s.ctx, s.store, []*store.Write{bad, good}, store.Durable); pim.KindOf(err) != pim.KindInvalid || good.Err != nil {
		s.Fatalf("a bad write beside a good one: %v, and the good one %v", err, good.Err)
	}
	s.ends("log", 0)
	s.holds("p", "k", 0, "")
	s.ends("good", 1)

	for _, name := range []string{"", long} {
		_, err := store.ReadLog(s.ctx, s.store, store.Log(name), 1, 0, much)
		s.isInvalid("read", err)
		_, _, err = store.LogEnd(s.ctx, s.store, store.Log(name))
		s.isInvalid("last", err)
		_, _, err = store.Lookup(s.ctx, s.store, store.Partition(name), "k")
		s.isInvalid("get", err)
		_, err = s.store.List(s.ctx, store.Partition(name), "", 1)
		s.isInvalid("list", err)
	}
}

func (s *suite) isInvalid(what string, err error) {
	s.Helper()
	if pim.KindOf(err) != pim.KindInvalid {
		s.Errorf("%s of a bad name: %v, want KindInvalid", what, err)
	}
}
