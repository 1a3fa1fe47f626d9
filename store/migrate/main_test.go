package migrate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
	"github.com/pim-im/pim/store/migrate"
	"github.com/pim-im/pim/store/pebble"
	"go.uber.org/goleak"
)

// node is the cluster of all tests, of one node, which the first of them starts.
var node struct {
	sync.Once
	cluster *cassandra.Cluster
	err     error
}

func TestMain(m *testing.M) {
	// The driver leaves a goroutine behind for ever, if a session is closed while its control connection is being made anew.
	left := goleak.IgnoreAnyFunction("github.com/apache/cassandra-gocql-driver/v2.(*Session).refreshRing")
	goleak.VerifyTestMain(leaks.Patiently(m, left), left, goleak.Cleanup(func(code int) {
		if node.cluster != nil {
			node.cluster.Stop()
		}
		os.Exit(code)
	}))
}

// engine opens a store again and again. restore says that another store is copied to it.
type engine interface {
	open(restore bool) (migrate.Target, error)
}

// onDisk is an engine in memory that works as on a disk.
type onDisk struct{ fs vfs.FS }

func embedded() engine { return onDisk{vfs.NewMem()} }

func (d onDisk) open(restore bool) (migrate.Target, error) {
	return pebble.Open("db", pebble.Options{FS: d.fs, Logger: slog.New(slog.DiscardHandler), Restore: restore})
}

// onNode is an engine in a keyspace of its own.
type onNode struct{ cql.Options }

func keyspace(t testing.TB, name string) engine {
	t.Helper()
	node.Do(func() { node.cluster, node.err = cassandra.Start(1) })
	if node.err != nil {
		t.Fatal(node.err)
	}
	o := cql.Options{Hosts: []string{node.cluster.Host(1)}, Keyspace: name, Logger: slog.New(slog.DiscardHandler)}
	copies, err := cql.ParseReplication("1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cql.Init(context.Background(), o, copies); err != nil {
		t.Fatal(err)
	}
	return onNode{o}
}

func (n onNode) open(restore bool) (migrate.Target, error) {
	n.Restore = restore
	return cql.Open(context.Background(), n.Options)
}

// opens opens a store that must open.
func opens(t testing.TB, e engine, restore bool) migrate.Target {
	t.Helper()
	s, err := e.open(restore)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closes(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// commits commits writes that must succeed.
func commits(t testing.TB, s store.Store, writes ...*store.Write) {
	t.Helper()
	if err := store.Commit(context.Background(), s, writes, store.Durable); err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if w.Err != nil {
			t.Fatal(w.Err)
		}
	}
}

// copies copies the store that from opens to the one that to opens, and ends the copy.
func copies(t testing.TB, from, to engine) migrate.Comparison {
	t.Helper()
	a, b := opens(t, from, false), opens(t, to, true)
	defer closes(t, a)
	defer closes(t, b)
	if _, err := migrate.Copy(t.Context(), a, b, migrate.Options{}); err != nil {
		t.Fatal(err)
	}
	c := compares(t, a, b)
	if err := b.EndRestore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func compares(t testing.TB, a, b store.Scanner) migrate.Comparison {
	t.Helper()
	c, err := migrate.Compare(t.Context(), a, b, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// source makes a store.
type source struct {
	testing.TB
	s    store.Store
	ends map[store.Log]store.LogState
	next uint64 // of the random numbers
}

// pick returns a number below n; the numbers follow from the seed.
func (s *source) pick(n uint64) uint64 {
	s.next = s.next*6364136223846793005 + 1442695040888963407
	return s.next >> 33 % n
}

func (s *source) value(n uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.pick(256))
	}
	return b
}

// fill fills the store with what seed says: long logs and short ones, with erased and trimmed records and
// fences, and cells of all sorts, some of them forgotten.
func (s *source) fill(seed uint64, steps int) {
	s.next = seed
	s.ends = map[store.Log]store.LogState{}
	if _, err := store.Identity(context.Background(), s.s); err != nil {
		s.Fatal(err)
	}
	for range steps {
		s.step()
	}
}

func (s *source) step() {
	log := store.Log(fmt.Sprint("log/", s.pick(20), "\x00"))
	l := s.ends[log]
	if l.Front == 0 {
		l = store.LogState{Log: log, Front: 1}
	}
	w := &store.Write{Log: log, After: l.Last, Fence: l.Fence}
	switch s.pick(10) {
	case 0, 1, 2, 3:
		for range 1 + s.pick(1+s.pick(900)) {
			w.Records = append(w.Records, s.value(1+s.pick(200)))
		}
		l.Last += pim.Seq(len(w.Records))
	case 4:
		w.Raise, l.Fence = true, l.Fence+1
	case 5:
		if l.Last == 0 {
			return
		}
		w.Trim = 1 + pim.Seq(s.pick(uint64(l.Last)))
		l.Front = max(l.Front, w.Trim+1)
	case 6:
		if l.Last == 0 {
			return
		}
		w.Erase = []store.Erasure{{Seq: 1 + pim.Seq(s.pick(uint64(l.Last))), Rest: []byte("rest")}}
	default:
		w = &store.Write{}
		for range 1 + s.pick(60) {
			w.Cells = append(w.Cells, s.cell())
		}
	}
	commits(s, s.s, w)
	s.ends[log] = l
}

func (s *source) cell() store.CellWrite {
	p := []store.Partition{"p", "~p", "expiring"}[s.pick(3)]
	c := store.CellWrite{Partition: p, Cell: store.Cell{Key: fmt.Sprint(s.pick(400)), Version: 1 + s.pick(9)}}
	switch {
	case p == "expiring":
		c.Lifetime = time.Duration(1+s.pick(20)) * 24 * time.Hour
		c.Value = fmt.Append(nil, c.Key, c.Version) // of one version always the same
	case s.pick(8) == 0 && p == "~p":
		c.Forget = true
	default:
		c.Partition += store.Partition(fmt.Sprint("/", s.pick(3)))
		c.Value = s.value(s.pick(100))
	}
	return c
}
