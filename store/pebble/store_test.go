package pebble_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return open(t, "db", pebble.Options{FS: vfs.NewMem()})
		})
	})
	t.Run("disk", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return open(t, t.TempDir(), pebble.Options{})
		})
	})
	t.Run("small memtables", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return open(t, "db", pebble.Options{FS: vfs.NewMem(), MemTableBytes: 64 << 10})
		})
	})
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
