package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// A store is copied to another directory and served there; the command says that nothing is lost, and
// notices what is written afterwards.
func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "new", "to")
	t.Run("served", func(t *testing.T) { // the server ends with the subtest
		n := serve(t, "--data", from)
		n.data = from
		n.ok("", "send", "--as", "alice", "--to", "bob", "before")
		_, stderr, status := pimWith(t.Context(), "", "migrate", "--from", from, "--to", to)
		if status != exitUnavailable || !strings.Contains(stderr, "lock") {
			t.Errorf("while a server runs: status %d, %s", status, stderr)
		}
	})
	stdout, stderr, status := pimWith(t.Context(), "", "migrate", "--from", from, "--to", to)
	if status != exitOK || !strings.Contains(stdout, "lost: 0, added: 0,") || !strings.Contains(stdout, "has become the store") || !strings.Contains(stdout, "keys.json") {
		t.Fatalf("status %d, %s%s", status, stdout, stderr)
	}
	stdout, stderr, status = pimWith(t.Context(), "", "migrate", "--from", from, "--to", to)
	if status != exitOK || !strings.Contains(stdout, "was complete before: nothing was copied") || strings.Contains(stdout, "has become the store") {
		t.Errorf("once more: status %d, %s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{{}, {"--verify"}} { // the same again, which was done before
		args = append([]string{"migrate", "--from", from, "--to", to, "--json"}, args...)
		stdout, stderr, status = pimWith(t.Context(), "", args...)
		var report migrateJSON
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != exitOK || report.Copied {
			t.Fatalf("%q: status %d, %s%s, %v", args, status, stdout, stderr, err)
		}
		if a, b := report.From, report.To; a.Records < 1 || a.Logs.Items < 2 || a.Cells.Items+a.Passing.Items == 0 ||
			a.Store != from || b.Store != to || a.Logs != b.Logs || a.Cells != b.Cells || a.Passing != b.Passing || len(a.Logs.Hash) != 64 {
			t.Errorf("%s", stdout)
		}
	}
	keys, err := os.ReadFile(filepath.Join(from, "keys.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "keys.json"), keys, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Run("goes on", func(t *testing.T) {
		n := serve(t, "--data", to)
		n.data = to
		if lines := n.ok("", "tail", "--as", "bob", "--to", "alice", "--no-follow"); !strings.Contains(strings.Join(lines, "\n"), "before") {
			t.Errorf("%q", lines)
		}
		n.ok("", "send", "--as", "bob", "--to", "alice", "after")
	})
	for _, args := range [][]string{{}, {"--verify"}} { // nobody may be told to remove what has come since
		args = append([]string{"migrate", "--from", from, "--to", to}, args...)
		stdout, stderr, status = pimWith(t.Context(), "", args...)
		if status != exitBroken || !strings.Contains(stderr, "the stores are not equal") || !strings.Contains(stdout, `added: 1 of the log "d:`) ||
			!strings.Contains(stderr, "written to since") || strings.Contains(stdout+stderr, "mpty ") || strings.Contains(stdout+stderr, "has become the store") {
			t.Errorf("%q after a message: status %d, %s%s", args, status, stdout, stderr)
		}
	}
}

// Of a store that was complete before, nobody knows when it was copied. If it lacks cells that expire, the
// command neither calls it equal nor says that they are lost.
func TestMigrateDoesNotJudgeWhatExpires(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	write := func(key string) {
		t.Helper()
		s, err := pebble.Open(filepath.Join(from, "store"), pebble.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.Identity(t.Context(), s)
		w := &store.Write{Cells: []store.CellWrite{{Partition: "e", Cell: store.Cell{Key: key, Version: 1}, Lifetime: 20 * 24 * time.Hour}}}
		if err = errors.Join(err, store.Commit(t.Context(), s, []*store.Write{w}, store.Durable), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(from, 0o700); err != nil {
		t.Fatal(err)
	}
	write("copied")
	if stdout, stderr, status := pimWith(t.Context(), "", "migrate", "--from", from, "--to", to); status != exitOK {
		t.Fatalf("status %d, %s%s", status, stdout, stderr)
	}
	write("missing")
	for _, args := range [][]string{{}, {"--verify"}} {
		args = append([]string{"migrate", "--from", from, "--to", to}, args...)
		stdout, stderr, status := pimWith(t.Context(), "", args...)
		if status != exitBroken || !strings.Contains(stdout, "not judged: 1\n") || !strings.Contains(stdout, "lost: 0, added: 0,") ||
			!strings.Contains(stderr, "nobody can tell") || strings.Contains(stdout+stderr, "mpty ") {
			t.Errorf("%q: status %d, %s%s", args, status, stdout, stderr)
		}
	}
}

// What is not a store, or is another one, is refused before anything is written.
func TestMigrateWhatCannotBe(t *testing.T) {
	dir := t.TempDir()
	one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	t.Run("served", func(t *testing.T) {
		serve(t, "--data", one)
		serve(t, "--data", other)
	})
	for _, test := range []struct {
		args   string
		status int
		says   string
	}{
		{"--from " + one + " --to " + one, exitUsage, "the store itself"},
		{"--from " + dir + "/none --to " + dir + "/new", exitUsage, "there is no store in"},
		{"--from " + one + " --to " + dir + "/none --verify", exitUsage, "there is no store in"},
		{"--from " + one + " --to " + other, exitRefused, "there is another store in"},
		{"--from " + one + " --to cql://127.0.0.1", exitUsage, "write cql://HOST"},
		{"--from " + one + " --to http://127.0.0.1/x", exitUsage, "names no store"},
		{"--from " + one + " --to cql://u:p@127.0.0.1/pim", exitUsage, "a user or a password"},
		{"--from " + one + " --to cql://127.0.0.1:1/pim --timeout 1s", exitUnavailable, ""},
		{"--from " + one, exitUsage, "missing flags: --to"},
		{"--from " + one + " --to " + dir + "/new --timeout 0s", exitUsage, "leaves no time"},
	} {
		stdout, stderr, status := pimWith(t.Context(), "", append([]string{"migrate"}, strings.Fields(test.args)...)...)
		if status != test.status || !strings.Contains(stderr, test.says) {
			t.Errorf("%s: status %d, want %d and %q: %s%s", test.args, status, test.status, test.says, stdout, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a directory was made for nothing")
	}
}
