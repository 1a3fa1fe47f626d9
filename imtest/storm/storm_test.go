package storm

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/imtest/seeds"
)

// number returns what an environment variable says, or else a default.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s: it is not a number", name, text)
	}
	return n
}

// The storm at size, of which docs/avalanche.md has the figures. Its settings are environment variables, see make storm.
func TestStorm(t *testing.T) {
	if os.Getenv("STORM_CONNECTIONS") == "" {
		t.Skip("it takes many minutes: make storm")
	}
	dir := t.TempDir()
	cfg := Config{
		Pim: filepath.Join(dir, "pim"), Clients: filepath.Join(dir, "clients"), Dir: filepath.Join(dir, "data"),
		Gateways: number(t, "STORM_GATEWAYS", 5), Connections: number(t, "STORM_CONNECTIONS", 50_000), Kills: number(t, "STORM_KILLS", 2),
		AcceptRate: number(t, "STORM_ACCEPT_RATE", 150), Rate: float64(number(t, "STORM_MESSAGES", 20)),
		Calm: time.Duration(number(t, "STORM_CALM", 60)) * time.Second, Patience: time.Duration(number(t, "STORM_PATIENCE", 900)) * time.Second,
		Every: time.Duration(number(t, "STORM_EVERY", 5)) * time.Second, Unprotected: number(t, "STORM_UNPROTECTED", 0) != 0, Sync: number(t, "STORM_SYNC", 0) != 0,
		Seed: seeds.First(t), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Row: func(r Row) { fmt.Println(r) },
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := process.Build(cfg.Pim); err != nil {
		t.Fatal(err)
	}
	if err := BuildClients(cfg.Clients); err != nil {
		t.Fatal(err)
	}
	// One node: the storm is about the gateways, and a store with three copies would take the CPU that they need here.
	store, err := cassandra.Start(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Stop)
	cfg.Store = "cql://" + store.Host(1) + "/storm"
	if out, err := exec.Command(cfg.Pim, "cluster", "init", "--store", cfg.Store, "--replication", "1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fmt.Println(Head)
	rep, err := Run(t.Context(), cfg)
	fmt.Printf("\n%d clients were in after %.0f s\n", cfg.Connections, rep.In.Seconds())
	for _, l := range rep.Losses {
		fmt.Printf("at %.0f s gateway %d died with %d connections: all were back after %.0f s (0: not at all)\n", l.At.Seconds(), l.Gateway, l.Connected, l.Back.Seconds())
	}
	fmt.Printf("%d messages and %d deliveries in %.0f s: lost %d, doubled %d, misordered %d; the longest wait for an acknowledgement %.1f s\n",
		rep.Soak.Messages, rep.Soak.Deliveries, rep.Soak.Seconds, rep.Soak.Lost, rep.Soak.Doubled, rep.Soak.Misordered, rep.Soak.Longest.Seconds())
	for _, b := range append(rep.Beyond, rep.Soak.Findings...) {
		fmt.Println(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := rep.Err(); err != nil && !cfg.Unprotected {
		t.Error(err)
	}
}
