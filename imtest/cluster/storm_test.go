package cluster

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/imtest/storm"
)

// Of three gateways one is killed, and its users come back to the other two as their LBS tells them: neither gateway is ever beyond its
// bounds, and of the messages that flow meanwhile none is lost, doubled or misordered. make storm plays it at size.
func TestSmallStorm(t *testing.T) {
	all.Do(func() { all.err = prepare() })
	if all.err != nil {
		t.Fatal(all.err)
	}
	clients := filepath.Join(all.dir, "clients")
	if err := storm.BuildClients(clients); err != nil {
		t.Fatal(err)
	}
	all.keyspaces++
	store := fmt.Sprintf("cql://%s,%s,%s/storm_%d", all.cassandra.Host(1), all.cassandra.Host(2), all.cassandra.Host(3), all.keyspaces)
	if err := initialise(t.Context(), all.pim, store); err != nil {
		t.Fatal(err)
	}
	seed := seeds.First(t)
	rep, err := storm.Run(t.Context(), storm.Config{
		Pim: all.pim, Clients: clients, Store: store, Dir: t.TempDir(), Log: logger(), Seed: seed,
		Gateways: 3, Connections: 3000, Kills: 1,
		AcceptRate: 3000, // a lower one has an LBS tell clients to wait, for half a minute and more
		Calm:       time.Second, Patience: 5 * time.Minute, Users: 4, BackoffMax: 2 * time.Second,
		Row: func(r storm.Row) { t.Log(r) },
	})
	if err != nil {
		t.Fatalf("PIM_SEED=%d: %v", seed, err)
	}
	t.Logf("all were in after %.1f s; of %+v; %d messages and %d deliveries in %.1f s: lost %d, doubled %d, misordered %d",
		rep.In.Seconds(), rep.Losses, rep.Soak.Messages, rep.Soak.Deliveries, rep.Soak.Seconds, rep.Soak.Lost, rep.Soak.Doubled, rep.Soak.Misordered)
	for _, f := range rep.Soak.Findings {
		t.Error(f)
	}
	if err := rep.Err(); err != nil || len(rep.Losses) != 1 || rep.Losses[0].Connected == 0 || rep.Soak.Deliveries <= rep.Soak.Messages {
		t.Errorf("PIM_SEED=%d: %+v: %v", seed, rep, err)
	}
}
