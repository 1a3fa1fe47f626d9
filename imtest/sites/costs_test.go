package sites

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/load"
)

// workload is one row of the table.
type workload struct {
	name string
	load.Config
}

// pairs are 100 pairs of users who send to each other.
func pairs(name string, c load.Config) workload {
	c.Workload, c.Users = load.Direct, 200
	return workload{name, c}
}

// group is a group of 100 users.
func group(name string, c load.Config) workload {
	c.Workload, c.Users, c.GroupSize = load.Group, 100, 100
	return workload{name, c}
}

// What messages cost on one, two and three nodes: the CPU of pim and of its store, transactions and rows, the bus's
// share, and latencies. The deployments stand side by side, and each workload goes to one after the other, so that
// the JVM and the machine are about the same for all. It takes some ten minutes: make bench-cluster.
func TestCosts(t *testing.T) {
	if os.Getenv("PIM_BENCH_CLUSTER") == "" {
		t.Skip("it takes minutes: make bench-cluster")
	}
	bin := build(t)
	all := []workload{ // the busiest first, so that the JVM has compiled everything when the quiet ones come
		pairs("W = 32", load.Config{Window: 32}),
		pairs("W = 8", load.Config{Window: 8}),
		pairs("W = 1", load.Config{Window: 1}),
		group("group, one sends, W = 8", load.Config{Senders: 1, Window: 8}),
		group("group, all send, W = 1", load.Config{Window: 1}),
		pairs("50/s", load.Config{Rate: 50}),
		pairs("20/s", load.Config{Rate: 20}),
	}
	t.Run("one Cassandra", func(t *testing.T) {
		one := Options{Pim: bin, Nodes: 1, Stores: 1, Replication: "1"}
		one.Cassandra = has(t, func() (*cassandra.Cluster, error) { return cassandra.Start(1) })
		costs(t, one, []int{0, 1, 2, 3}, all)
	})
	t.Run("three Cassandras", func(t *testing.T) {
		three := Options{Pim: bin, Stores: 3, Replication: "dc1:3"}
		three.Cassandra = has(t, func() (*cassandra.Cluster, error) { return cassandra.Start(3) })
		costs(t, three, []int{1, 3}, []workload{all[0], all[2], all[3], all[6]})
	})
}

// costs prints a table of what the workloads cost on so many nodes; 0 is one with the embedded store.
func costs(t *testing.T, o Options, nodes []int, all []workload) {
	deployments := map[int]*Pim{}
	for _, n := range nodes {
		of := o
		of.Nodes, of.Keyspace = n, fmt.Sprintf("costs_%d", n)
		if n == 0 {
			of = Options{Pim: o.Pim, Nodes: 1}
		}
		deployments[n] = starts(t, of)
	}
	// The JVM compiles what runs often.
	for _, warm := range []load.Config{{Workload: load.Direct, Users: 200, Window: 1}, {Workload: load.Group, Users: 100, GroupSize: 100, Window: 1}} {
		warm.Duration = 8 * time.Second
		if _, err := deployments[nodes[len(nodes)-1]].Measure(t.Context(), warm); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("| load | nodes | messages/s | CPU of pim, s per 1,000 | of Cassandra | transactions for a message | rows | bus | route, home | ack p50 | p99 | delivery p50 | p99 |")
	for _, w := range all {
		for _, n := range nodes {
			cfg := w.Config
			cfg.Duration, cfg.Warmup = 6*time.Second, time.Second
			c, err := deployments[n].Measure(t.Context(), cfg)
			if err != nil {
				t.Errorf("%s, %d nodes: %v", w.name, n, err)
				continue
			}
			name := fmt.Sprint(n)
			if n == 0 {
				name = "embedded"
			}
			t.Logf("| %s | %s | %.0f | %.3f | %.2f | %.3f | %.2f | %.0f %% | %.0f %% | %.1f ms | %.1f | %.1f | %.1f |",
				w.name, name, c.Messages/c.Seconds, c.Pim, c.Store, c.Transactions, c.Rows, 100*c.Bus, 100*c.Route, c.AckP50, c.AckP99, c.DeliveryP50, c.DeliveryP99)
		}
	}
}
