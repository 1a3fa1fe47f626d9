package pebble_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/prometheus/client_golang/prometheus"
)

// fillTables writes a few megabytes, flushed into tables.
func fillTables(t *testing.T, s *pebble.Store) {
	t.Helper()
	for i := range 60 {
		appends(t, s, "log", pim.Seq(i), strings.Repeat(string(rune('a'+i%26)), 60<<10))
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestTablesAreWrittenInLargePieces checks that tables are written in large pieces,
// because many small writes are a large part of a compaction's cost.
func TestTablesAreWrittenInLargePieces(t *testing.T) {
	var writes atomic.Int64
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && filepath.Ext(op.Path) == ".sst" {
			writes.Add(1)
		}
		return nil
	}))
	s := open(t, "db", pebble.Options{FS: fs})
	defer closes(t, s)
	before := writes.Load()
	// Bytes that do not compress, so that the tables are large.
	noise := newSustainedWriter(sustained{logs: 64, records: 64}, 0)
	for range 8 {
		noise.next()
		if err := store.Commit(context.Background(), s, noise.writes, store.Durable); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	size := s.TableBytes()
	if n := writes.Load() - before; size < 1<<20 || n > int64(size/(64<<10))+16 {
		t.Errorf("%d bytes of tables took %d writes", size, n)
	}
}

// TestWorkIsCollected checks that the registry has the figures that an operator sees.
func TestWorkIsCollected(t *testing.T) {
	r := prometheus.NewRegistry()
	s := open(t, "db", pebble.Options{FS: vfs.NewMem(), Registerer: r})
	fillTables(t, s)
	values := map[string]float64{}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	taken, written := values["pim_store_taken_bytes_total"], values["pim_store_written_bytes_total"]
	if taken < 60*60<<10 || written < taken {
		t.Errorf("%.0f bytes were taken, %.0f written", taken, written)
	}
	for _, name := range []string{"pim_store_l0_sublevels", "pim_store_compaction_debt_bytes"} {
		if _, ok := values[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	closes(t, s)
	if families, err = r.Gather(); err != nil || len(families) > 0 {
		t.Errorf("a closed store shows %d metrics, %v", len(families), err)
	}
}
