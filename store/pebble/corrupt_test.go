package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// total is how many records, and cells, filled writes.
const total = 600

// filled returns the disk of a store with total records and cells. Its data is in tables
// or, if not flushed, in the write-ahead log.
func filled(t *testing.T, flushed bool) *vfs.MemFS {
	fs := vfs.NewCrashableMem()
	o := small(fs)
	o.MemTableBytes = 4 << 20
	s := open(t, "db", o)
	for i := range total {
		appends(t, s, "log", pim.Seq(i), fmt.Sprintf("record %d %s", i+1, strings.Repeat("x", 200)))
		commitCell(t, s, "p", fmt.Sprint(i), 1)
	}
	if flushed {
		if err := errors.Join(s.Flush(), s.Compact()); err != nil {
			t.Fatal(err)
		}
		closes(t, s)
		s = open(t, "db", o) // removes tables that are no longer used
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	closes(t, s)
	return crashed
}

// flip changes one bit of the largest file with a suffix and returns where.
func flip(t *testing.T, fs *vfs.MemFS, suffix string, rng *rand.Rand) string {
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	var largest []byte
	var where string
	for _, name := range names {
		if filepath.Ext(name) != suffix {
			continue
		}
		data, err := fs.UnsafeGetFileDataBuffer("db/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > len(largest) {
			largest, where = data, name
		}
	}
	if largest == nil {
		t.Fatalf("no file with the suffix %s", suffix)
	}
	at := rng.IntN(len(largest))
	largest[at] ^= 1 << rng.IntN(8)
	return fmt.Sprintf("%s at byte %d of %d", where, at, len(largest))
}

// TestCorruptTable flips a bit of a table. A read returns what was written, or
// KindCorrupt; after a KindCorrupt the store acknowledges nothing any more.
func TestCorruptTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	disk := filled(t, true)
	found := 0
	for range rounds(seeds.Many(150)) {
		fs := disk.CrashClone(vfs.CrashCloneCfg{})
		where := flip(t, fs, ".sst", rng)
		s, err := pebble.Open("db", small(fs))
		if err != nil {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("%s: open: %v", where, err)
			}
			found++
			continue
		}
		if readsAll(t, s, where) {
			found++
			refusesAsCorrupt(t, s, where)
		}
		s.Close()
	}
	if found == 0 {
		t.Error("no flipped bit was found")
	}
	t.Logf("%d of the flipped bits were found", found)
}

// readsAll reads what filled has written, and reports whether a read met corruption.
func readsAll(t *testing.T, s store.Store, where string) (corrupt bool) {
	t.Helper()
	ctx := context.Background()
	check := func(what string, err error, right bool) {
		switch {
		case err != nil && pim.KindOf(err) != pim.KindCorrupt:
			t.Errorf("%s: %s: %v", where, what, err)
		case err == nil && !right:
			t.Errorf("%s: %s gives something else than was written", where, what)
		}
		corrupt = corrupt || err != nil
	}
	last, _, err := store.LogEnd(ctx, s, "log")
	check("last", err, last == total)
	records, err := store.ReadLog(ctx, s, "log", 1, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
	check("read", err, len(records) == total)
	for i, r := range records {
		if !strings.HasPrefix(string(r), fmt.Sprintf("record %d x", i+1)) {
			t.Fatalf("%s: record %d is %.30q", where, i+1, r)
		}
	}
	cells, err := s.List(ctx, "p", "", 1000)
	check("list", err, len(cells) == total)
	for i := range total {
		c, _, err := store.Lookup(ctx, s, "p", fmt.Sprint(i))
		check("get", err, c.Version == 1)
	}
	return corrupt
}

func refusesAsCorrupt(t *testing.T, s *pebble.Store, where string) {
	t.Helper()
	if err := s.Health(); pim.KindOf(err) != pim.KindCorrupt {
		t.Errorf("%s: health: %v", where, err)
	}
	w := &store.Write{Log: "new", Records: [][]byte{[]byte("x")}}
	err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable)
	if pim.KindOf(err) != pim.KindCorrupt || errors.Is(err, store.ErrUnknown) {
		t.Errorf("%s: commit: %v", where, err)
	}
}

// TestCorruptLog flips a bit of the write-ahead log. Open mostly finds it. If Open
// cannot tell the bit from a write that was cut off (see the package documentation), the
// store holds what was written before the bit, and nothing else.
func TestCorruptLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	disk := filled(t, false)
	found, n := 0, rounds(seeds.Many(150))
	for range n {
		fs := disk.CrashClone(vfs.CrashCloneCfg{})
		where := flip(t, fs, ".log", rng)
		s, err := pebble.Open("db", small(fs))
		if err != nil {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("%s: open: %v", where, err)
			}
			found++
			continue
		}
		readsBeginning(t, s, where)
		closes(t, s)
	}
	if found < n/2 {
		t.Errorf("%d of %d flipped bits were found", found, n)
	}
	t.Logf("%d of %d flipped bits were found", found, n)
}

// readsBeginning checks that a store holds what filled has written up to some point, and
// nothing after it.
func readsBeginning(t *testing.T, s store.Store, where string) {
	t.Helper()
	ctx := context.Background()
	records, err := store.ReadLog(ctx, s, "log", 1, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
	for i, r := range records {
		if !strings.HasPrefix(string(r), fmt.Sprintf("record %d x", i+1)) {
			t.Errorf("%s: record %d is %.30q", where, i+1, r)
		}
	}
	for i := range total {
		c := get(t, s, "p", fmt.Sprint(i))
		if there := c.Version == 1; there && i >= len(records) || !there && i < len(records)-1 {
			t.Errorf("%s: %d records are left, and cell %d: %v", where, len(records), i, there)
		}
	}
}

// TestIncomplete opens a store that has lost its tables, or nearly all of their bytes.
// That is corruption too, and the error says what to do.
func TestIncomplete(t *testing.T) {
	disk := filled(t, true)
	for name, damage := range map[string]func(fs *vfs.MemFS, table string) error{
		"gone": func(fs *vfs.MemFS, table string) error { return fs.Remove(table) },
		"cut": func(fs *vfs.MemFS, table string) error {
			f, err := fs.Create(table, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte("x"))
			return errors.Join(err, f.Close())
		},
	} {
		fs := disk.CrashClone(vfs.CrashCloneCfg{})
		names, err := fs.List("db")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if filepath.Ext(n) == ".sst" {
				if err := damage(fs, "db/"+n); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err = pebble.Open("db", small(fs))
		if pim.KindOf(err) != pim.KindCorrupt || !strings.Contains(err.Error(), "restore this node from a backup") {
			t.Errorf("a table is %s: %v", name, err)
		}
	}
}

// A directory that cannot be made holds nothing that could be corrupt.
func TestDirectoryThatCannotBe(t *testing.T) {
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpMkdirAll {
			return os.ErrNotExist
		}
		return nil
	}))
	if _, err := pebble.Open("db", small(fs)); pim.KindOf(err) != pim.KindUnavailable || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
