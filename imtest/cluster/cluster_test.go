package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/imtest/soak"
	"go.uber.org/goleak"
)

// all is what all tests use, and the first of them makes: the program and a cluster of Cassandra.
var all struct {
	sync.Once
	dir, pim  string
	cassandra *cassandra.Cluster
	err       error
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if all.cassandra != nil {
			all.cassandra.Stop()
		}
		os.RemoveAll(all.dir)
		os.Exit(code)
	}))
}

// prepare makes what all tests use.
func prepare() error {
	var err error
	if all.dir, err = os.MkdirTemp("", "pim-cluster"); err != nil {
		return err
	}
	all.pim = filepath.Join(all.dir, "pim")
	if err := process.Build(all.pim); err != nil {
		return err
	}
	all.cassandra, err = cassandra.Start(Nodes)
	return err
}

// start starts a cluster in a keyspace of its own. It ends with the test.
func start(t *testing.T, keyspace string, log *slog.Logger) *Cluster {
	all.Do(func() { all.err = prepare() })
	if all.err != nil {
		t.Fatal(all.err)
	}
	c, err := Start(t.Context(), Options{Pim: all.pim, Cassandra: all.cassandra, Keyspace: keyspace, Dir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Three nodes of pim over three of Cassandra lose, double and misorder nothing while one node
// after the other is killed or paused. Messages are displayed in the order in which they were sent, and
// few stand in the log in another one. PIM_CLUSTER_SCHEDULES plays more than one schedule, each in a
// keyspace of its own.
func TestFaultsLoseNothing(t *testing.T) {
	first, count := seeds.Schedules(t, 1, "PIM_CLUSTER_SCHEDULES")
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for n := range count {
		seed := first + n
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := start(t, fmt.Sprintf("faults_%d", n), log)
			rep, err := soak.Run(t.Context(), soak.Config{
				Servers: c, Keys: c.Keys(), Seed: seed, Log: log,
				Users: 8, Rate: 50, Duration: time.Second, FaultEvery: time.Second, MinFaults: EveryFault,
			})
			if err != nil {
				t.Fatalf("PIM_SEED=%d: %v\n%s", seed, err, c.Said())
			}
			t.Logf("%d messages and %d deliveries in %.0f s, %d faults: lost %d, doubled %d, misordered %d; %d were overtaken",
				rep.Messages, rep.Deliveries, rep.Seconds, rep.Faults, rep.Lost, rep.Doubled, rep.Misordered, rep.Overtaken)
			for _, f := range rep.Findings {
				t.Error(f)
			}
			if err := rep.Err(); err != nil || rep.Messages == 0 || rep.Deliveries <= rep.Messages || rep.Faults < EveryFault {
				t.Errorf("PIM_SEED=%d: %+v: %v\n%s", seed, rep, err, c.Said())
			}
		})
		if !ok {
			return
		}
	}
}

// forgetful is a cluster whose only fault is that its store forgets a conversation.
type forgetful struct {
	*Cluster
	session *gocql.Session
}

func (f forgetful) Break(ctx context.Context, _ *rand.Rand, _ int) error {
	rows := f.session.Query("SELECT DISTINCT log, part FROM log").IterContext(ctx)
	var log []byte
	var part, forgotten int64
	for rows.Scan(&log, &part) {
		if !bytes.Contains(log, []byte("soak-0")) || !bytes.Contains(log, []byte("soak-1")) {
			continue
		}
		if err := f.session.Query("DELETE FROM log WHERE log = ? AND part = ?", log, part).ExecContext(ctx); err != nil {
			return err
		}
		forgotten++
	}
	if err := rows.Close(); err != nil {
		return err
	}
	if forgotten == 0 {
		return fmt.Errorf("the store does not have the conversation of soak-0 and soak-1")
	}
	return nil
}

// A store that forgets what it has acknowledged is found out.
func TestForgetfulStoreIsCaught(t *testing.T) {
	c := start(t, "forgetful", nil)
	config := gocql.NewCluster(all.cassandra.Host(1), all.cassandra.Host(2), all.cassandra.Host(3))
	config.Keyspace, config.Consistency = "forgetful", gocql.All
	session, err := config.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	rep, err := soak.Run(t.Context(), soak.Config{
		Servers: forgetful{c, session}, Keys: c.Keys(), Seed: 1, Users: 3, Rate: 50,
		Duration: time.Second, FaultEvery: time.Second, MinFaults: 1, Patience: 3 * time.Second,
	})
	if err == nil && rep.Err() == nil {
		t.Errorf("not noticed: %+v", rep)
	}
	t.Log(err, rep.Err(), rep.Findings)
}
