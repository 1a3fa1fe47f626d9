package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

// A store that was put back gets another identity each time. If there is no store, or a
// server runs on it, nothing is created or changed.
func TestRestore(t *testing.T) {
	empty := t.TempDir()
	restore := func(dir string, want int) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, status := pimWith(t.Context(), "", "restore", "--data", dir)
		if status != want {
			t.Fatalf("restore: status %d, %s%s; want %d", status, stdout, stderr, want)
		}
		return stdout, stderr
	}
	if _, stderr := restore(empty, exitUsage); !strings.Contains(stderr, "put the backup there first") {
		t.Errorf("an empty directory: %s", stderr)
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) > 0 {
		t.Errorf("restore made %v, %v", files, err)
	}
	n := serve(t)
	if _, stderr := restore(n.data, exitUnavailable); !strings.Contains(stderr, "lock held") {
		t.Errorf("a running server: %s", stderr)
	}
	stopped := filepath.Join(t.TempDir(), "data")
	c := server.Defaults()
	c.Data, c.Listen, c.ListenTCP = stopped, "127.0.0.1:0", ""
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	first, _ := restore(stopped, exitOK)
	if second, _ := restore(stopped, exitOK); first == second || !strings.Contains(second, "start the server") {
		t.Errorf("restored twice: %q, then %q", first, second)
	}
}
