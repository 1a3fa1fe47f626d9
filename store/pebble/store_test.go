package pebble_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestConformance(t *testing.T) {
	for name, options := range map[string]func(t *testing.T) (dir string, o pebble.Options){
		"memory":          func(*testing.T) (string, pebble.Options) { return "db", pebble.Options{FS: vfs.NewCrashableMem()} },
		"disk":            func(t *testing.T) (string, pebble.Options) { return t.TempDir(), pebble.Options{} },
		"small memtables": func(*testing.T) (string, pebble.Options) { return "db", small(vfs.NewCrashableMem()) },
	} {
		t.Run(name, func(t *testing.T) {
			var dir string // of the test that runs
			var o pebble.Options
			engine := storetest.Engine{
				Open: func(t *testing.T) store.Store {
					dir, o = options(t)
					return open(t, dir, o)
				},
				Reopen: func(t *testing.T, _ store.Store) store.Store { return open(t, dir, o) },
				Restore: func(t *testing.T) store.Store {
					dir, o = options(t)
					restoring := o
					restoring.Restore = true
					return open(t, dir, restoring)
				},
				Crash: func(t *testing.T, s store.Store) store.Store {
					fs, ok := o.FS.(*vfs.MemFS)
					if !ok {
						t.Skip("a disk does not crash")
					}
					o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					return open(t, dir, o)
				},
			}
			t.Run("bare", func(t *testing.T) { storetest.Run(t, engine) })
			if name == "memory" { // on a disk each step of a loose write would be an fsync
				t.Run("loose", func(t *testing.T) { storetest.Run(t, engine.Loose(seeds.First(t))) })
			}
		})
	}
}

func open(t testing.TB, dir string, o pebble.Options) *pebble.Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	s, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closes(t testing.TB, s *pebble.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// commitCell writes a cell that a crash may lose.
func commitCell(t testing.TB, s store.Store, p store.Partition, key string, version uint64) {
	t.Helper()
	w := &store.Write{Cells: []store.CellWrite{{Partition: p, Cell: store.Cell{Key: key, Version: version}}}}
	if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Relaxed); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s store.Store, p store.Partition, key string) store.Cell {
	t.Helper()
	c, _, err := store.Lookup(context.Background(), s, p, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func appends(t testing.TB, s store.Store, log store.Log, after pim.Seq, records ...string) {
	t.Helper()
	w := &store.Write{Log: log, After: after}
	for _, r := range records {
		w.Records = append(w.Records, []byte(r))
	}
	if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
		t.Fatalf("append to %s: %v, %v", log, err, w.Err)
	}
}

// becomes waits until a store's health has the kind want; KindUnknown: it is nil.
func becomes(t testing.TB, s *pebble.Store, want pim.Kind) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if pim.KindOf(s.Health()) == want {
			return
		}
	}
	t.Fatalf("health is %v, want kind %v", s.Health(), want)
}

// unhealthy returns a channel that is closed when s was unhealthy at 20 looks in a row,
// or when done is closed.
func unhealthy(s *pebble.Store, done <-chan struct{}) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for bad := 0; bad < 20; {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			if bad++; s.Health() == nil {
				bad = 0
			}
		}
	}()
	return c
}

func TestAnotherLayoutIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "db", small(fs))
	if err := s.SetFormat("5"); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	if _, err := pebble.Open("db", small(fs)); pim.KindOf(err) != pim.KindUnsupported || !strings.Contains(err.Error(), `"5"`) {
		t.Fatalf("open: %v", err)
	}
}

// Open reads stores of earlier layouts, and marks them as stores of the present layout.
func TestTheLayoutsBefore(t *testing.T) {
	for _, version := range []string{"1", "2", "3"} {
		fs := vfs.NewMem()
		s := open(t, "db", small(fs))
		appends(t, s, "log", 0, "one")
		commitCell(t, s, "p", "k", 7)
		if err := s.SetFormat(version); err != nil {
			t.Fatal(err)
		}
		closes(t, s)
		s = open(t, "db", small(fs))
		if last, _, err := store.LogEnd(context.Background(), s, "log"); last != 1 || err != nil || get(t, s, "p", "k").Version != 7 {
			t.Errorf("the log ends at %d, %v", last, err)
		}
		commitCell(t, s, "~p", "k", 1)
		if format := s.Format(); format != "4" {
			t.Errorf("the layout is %q", format)
		}
		closes(t, s)
	}
}

// A store of an earlier version of pim may hold versions above store.MaxVersion, which a
// client chose. They count as MaxVersion: of such cells and one of MaxVersion the greater
// value wins, and no lower version does.
func TestVersionsOfEarlierStores(t *testing.T) {
	ctx, fs := context.Background(), vfs.NewMem()
	s := open(t, "db", small(fs))
	writes := func(version uint64, value string) {
		t.Helper()
		c := store.CellWrite{Partition: "p", Cell: store.Cell{Key: "k", Version: version, Value: []byte(value)}}
		if err := store.Commit(ctx, s, []*store.Write{{Cells: []store.CellWrite{c}}}, store.Durable); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(value string) {
		t.Helper()
		for range 2 {
			cells, err := s.List(ctx, "p", "", 9)
			c := get(t, s, "p", "k")
			if err != nil || len(cells) != 1 || cells[0].Version != store.MaxVersion || c.Version != store.MaxVersion || string(c.Value) != value || string(cells[0].Value) != value {
				t.Fatalf("the cell is %+v, it is listed as %+v, %v; want the value %q", c, cells, err, value)
			}
			if err := s.Compact(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, version := range []uint64{1 << 63, ^uint64(0)} {
		if err := s.SetOperand("p", "k", version, []byte("b")); err != nil {
			t.Fatal(err)
		}
	}
	holds("b")
	writes(store.MaxVersion-1, "lower")
	writes(store.MaxVersion, "a")
	holds("b")
	writes(store.MaxVersion, "c")
	holds("c")
	closes(t, s)
	s = open(t, "db", small(fs))
	holds("c")
	closes(t, s)
}

func TestOneProcessOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, pebble.Options{})
	defer closes(t, s)
	if _, err := pebble.Open(dir, pebble.Options{Logger: quiet()}); pim.KindOf(err) != pim.KindUnavailable {
		t.Fatalf("open: %v", err)
	}
}
