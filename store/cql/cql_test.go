package cql_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
	"github.com/pim-im/pim/store/storetest"
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

// cluster returns the cluster.
func cluster(t *testing.T) *cassandra.Cluster {
	t.Helper()
	node.Do(func() { node.cluster, node.err = cassandra.Start(1) })
	if node.err != nil {
		t.Fatal(node.err)
	}
	return node.cluster
}

// copies returns the replication that text says.
func copies(t *testing.T, text string) cql.Replication {
	t.Helper()
	r, err := cql.ParseReplication(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keyspace makes a keyspace whose logs have parts of n seqs, unless it is there.
func keyspace(t *testing.T, name string, n int64) cql.Options {
	t.Helper()
	o := cql.WithParts(cql.Options{
		Hosts: []string{cluster(t).Host(1)}, Keyspace: name, Logger: slog.New(slog.DiscardHandler),
	}, n)
	if _, _, err := cql.Init(context.Background(), o, copies(t, "1")); err != nil {
		t.Fatal(err)
	}
	return o
}

// spaces counts the stores of this process.
var spaces atomic.Int64

// fresh returns o for an empty store.
func fresh(o cql.Options) cql.Options { return cql.InSpace(o, fmt.Sprintf("%d/", spaces.Add(1))) }

func open(t *testing.T, o cql.Options) *cql.Store {
	t.Helper()
	s, err := cql.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// engine returns the engine whose stores lie in the keyspace of o.
func engine(o cql.Options) storetest.Engine {
	return storetest.Engine{
		Open: func(t *testing.T) store.Store {
			o = fresh(o)
			return open(t, o)
		},
		Reopen: func(t *testing.T, _ store.Store) store.Store { return open(t, o) },
		Restore: func(t *testing.T) store.Store {
			o = fresh(o)
			restoring := o
			restoring.Restore = true
			return open(t, restoring)
		},
	}
}

// Logs of a few hundred records lie in several parts, or in one: of the two tests one has short parts, as the seed says.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, engine(keyspace(t, "pim", partsOf(seeds.First(t)))))
}

func TestConformanceUnderLoose(t *testing.T) {
	t.Parallel()
	seed := seeds.First(t)
	storetest.Run(t, engine(keyspace(t, "pim_loose", partsOf(seed+1))).Loose(seed))
}

func partsOf(seed uint64) int64 {
	if seed%2 == 0 {
		return 64
	}
	return 0 // the default
}
