package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/imtest/soak"
)

// rolling is a cluster whose only fault is what an operator does for a new version: one node after the other drains, is
// stopped once its devices have gone, and starts again.
type rolling struct {
	*Cluster
	t *testing.T
}

// left is how long a node that drains is waited for until it has no connections. Devices that come back to it
// stay, and it is stopped with them then.
const left = 10 * time.Second

var refusals = regexp.MustCompile(`(?m)^pim_refusals_total\{.*\} [1-9].*$`)

func (r rolling) Break(ctx context.Context, random *rand.Rand, _ int) error {
	ctx = context.WithoutCancel(ctx)
	for _, i := range random.Perm(Nodes) {
		other := (i + 1) % Nodes
		order := exec.CommandContext(ctx, all.pim, "cluster", "drain", fmt.Sprintf("node%d", i+1), "--data", r.dir(other))
		if out, err := order.CombinedOutput(); err != nil {
			return fmt.Errorf("node %d is to drain: %w: %s", i+1, err, out)
		}
		patient, cancel := context.WithTimeout(ctx, left)
		empty := says(patient, r.Cluster, i, "/metrics", "(?m)^pim_connections 0$")
		cancel()
		r.t.Logf("node %d drains, and is empty: %t", i+1, empty)
		body, err := get(ctx, r.nodes[i].URL(false)+"/metrics")
		if err != nil {
			return err
		}
		for _, line := range refusals.FindAllString(string(body), -1) {
			r.t.Errorf("node %d has refused devices: %s", i+1, line)
		}
		if err := r.Replace(ctx, i, all.pim); err != nil {
			return fmt.Errorf("node %d starts again: %w", i+1, err)
		}
		await(r.t, r.Cluster, i, "/metrics", fmt.Sprintf("pim_bus_members %d\n", Nodes))
	}
	return nil
}

// Every node drains and is restarted under load, one after the other. No message is refused or lost, and no device is turned away.
func TestRollingRestart(t *testing.T) {
	c := running(t)
	seed := seeds.First(t)
	rep, err := soak.Run(t.Context(), soak.Config{
		Servers: rolling{c, t}, Keys: c.Keys(), Seed: seed, Name: "rolling", Log: c.o.Log,
		Users: 4, Rate: 10, Duration: time.Second, FaultEvery: 500 * time.Millisecond, MinFaults: 1,
	})
	if err != nil { // also if a message was refused for good
		t.Fatalf("PIM_SEED=%d: %v\n%s", seed, err, c.Said())
	}
	for i, n := range c.nodes {
		body, err := get(t.Context(), n.URL(false)+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range refusals.FindAllString(string(body), -1) {
			t.Errorf("node %d has refused devices: %s", i+1, line)
		}
	}
	t.Logf("%d messages and %d deliveries in %.1f s: lost %d, doubled %d, misordered %d; the longest wait was %.1f s",
		rep.Messages, rep.Deliveries, rep.Seconds, rep.Lost, rep.Doubled, rep.Misordered, rep.Longest.Seconds())
	for _, f := range rep.Findings {
		t.Error(f)
	}
	if err := rep.Err(); err != nil || rep.Faults < 1 || rep.Deliveries <= rep.Messages {
		t.Errorf("PIM_SEED=%d: %+v: %v\n%s", seed, rep, err, c.Said())
	}
}
