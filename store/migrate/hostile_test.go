package migrate_test

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store/migrate"
)

// tries copies from one engine to another, each of which may fail, and returns the first error. Then it has not ended the copy.
func tries(t *testing.T, from, to engine) (err error) {
	t.Helper()
	a, err := from.open(false)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	b, err := to.open(true)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	if _, err = migrate.Copy(t.Context(), a, b, migrate.Options{}); err == nil {
		_, err = migrate.Compare(t.Context(), a, b, migrate.Options{})
	}
	return err
}

// A block of the source is damaged, in each of its files in turn. The copy says so, and does not end; when the file is whole again, it goes on.
func TestDamagedSource(t *testing.T) {
	from := embedded()
	a := opens(t, from, false)
	(&source{TB: t, s: a}).fill(11, 200)
	closes(t, a)
	closes(t, opens(t, from, false)) // what was in the log of writes is in tables now
	whole, found := from.(onDisk).fs, 0
	names, err := whole.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		fs := vfs.NewMem() // a store of its own for each table: one that is open compacts its tables, and deletes them
		if _, err := vfs.Clone(whole, fs, "db", "db"); err != nil {
			t.Fatal(err)
		}
		path := fs.PathJoin("db", name)
		flip(t, fs, path)
		from, to := onDisk{fs}, embedded()
		if err := tries(t, from, to); pim.KindOf(err) != pim.KindCorrupt {
			t.Errorf("%s is damaged: %v", name, err)
		} else {
			found++
		}
		if begun, _ := to.(onDisk).fs.List("db"); len(begun) > 0 { // else the source did not open
			s, err := to.open(false)
			if pim.KindOf(err) != pim.KindConflict {
				t.Errorf("the copy of a damaged store opens: %v", err)
			}
			if err == nil {
				closes(t, s)
			}
		}
		flip(t, fs, path)
		equal(t, name, copies(t, from, to))
	}
	if found == 0 {
		t.Errorf("no table was damaged, of %q", names)
	}
}

// flip changes a byte in the first block of a file, or changes it back.
func flip(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err = anyOf(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	data[min(100, len(data)/2)] ^= 0x40
	w, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err = anyOf(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

func anyOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// The disk of the target is full after more and more has been written, until there is room for all. Each try says that the disk is full, and the last one goes on
// where they ended.
func TestFullTarget(t *testing.T) {
	from := embedded()
	a := opens(t, from, false)
	(&source{TB: t, s: a}).fill(12, 300)
	closes(t, a)
	full := 0
	var room atomic.Int64 // operations that write until the disk is full
	to := onDisk{errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		written := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpFilePreallocate
		if written && !strings.Contains(op.Path, "LOCK") && room.Add(-1) < 0 {
			return fmt.Errorf("write %s: %w", op.Path, syscall.ENOSPC)
		}
		return nil
	}))}
	for n := int64(5); ; n += 1 + n/8 {
		room.Store(n)
		err := tries(t, from, to)
		if err == nil {
			break
		}
		full++
		if k := pim.KindOf(err); k != pim.KindDiskFull {
			t.Errorf("the disk is full after %d writes: %v, %v", n, k, err)
		}
		if full > 60 {
			t.Fatal("the copy comes to no end")
		}
	}
	if full < 3 {
		t.Errorf("the disk was full %d times", full)
	}
	room.Store(1 << 40)
	equal(t, "with room", copies(t, from, to))
	t.Logf("full %d times", full)
}
