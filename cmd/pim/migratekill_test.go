package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// A migration is killed by SIGKILL at random moments, again and again, until it comes to its end. It says then that nothing is lost, and so does
// another one that only compares.
func TestMigrateIsKilled(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), ""
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pebble.Open(filepath.Join(from, "store"), pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Identity(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	var writes []*store.Write
	for log := range 400 {
		w := &store.Write{Log: store.Log(fmt.Sprint("log", log, "\x00"))}
		for range 1 + rng.IntN(60) {
			w.Records = append(w.Records, []byte(strings.Repeat("x", 1+rng.IntN(2000))))
		}
		writes = append(writes, w)
	}
	if err := store.Commit(t.Context(), s, writes, store.Durable); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for midway := 0; midway == 0; { // again, into a new store, if none of the kills came after the copy had begun
		to = filepath.Join(t.TempDir(), "to")
		kills, midway = migrateKilled(t, rng, self, from, to)
	}
	stdout, stderr, status := pimWith(t.Context(), "", "migrate", "--from", from, "--to", to, "--verify")
	if status != exitOK || !strings.Contains(stdout, "lost: 0, added: 0,") {
		t.Errorf("status %d, %s%s", status, stdout, stderr)
	}
	t.Logf("killed %d times", kills)
}

// migrateKilled migrates until no kill comes before the end. It returns how many came, and how many of them after the new store was there.
func migrateKilled(t *testing.T, rng *rand.Rand, self, from, to string) (kills, midway int) {
	for most := 20 * time.Millisecond; ; most += most / 2 {
		cmd := exec.Command(self, "migrate", "--from", from, "--to", to)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rng.Int64N(int64(most))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		killed := !kill.Stop() && !cmd.ProcessState.Exited()
		if err == nil {
			if !strings.Contains(said.String(), "lost: 0, added: 0,") {
				t.Errorf("it says %s", said.String())
			}
			return kills, midway
		}
		if !killed {
			t.Fatalf("after %d kills: %v: %s", kills, err, said.String())
		}
		if _, err := os.Stat(filepath.Join(to, "store")); err == nil {
			midway++
		}
		if kills++; kills > 1000 {
			t.Fatal("it comes to no end")
		}
	}
}
