//go:build unix

package server_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

// logged starts a server and stops it, and returns what it wrote to its log.
func logged(t *testing.T, c server.Config) string {
	t.Helper()
	var log bytes.Buffer
	s, err := server.New(c, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	return log.String()
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestOthersReadNothing(t *testing.T) {
	c := config(t)
	c.Data = filepath.Join(t.TempDir(), "a", "b")
	if log := logged(t, c); strings.Contains(log, "WARN") && strings.Contains(log, "others") {
		t.Errorf("a directory of its own is warned of:\n%s", log)
	}
	for _, dir := range []string{c.Data, filepath.Join(c.Data, "store")} {
		if m := mode(t, dir); m != 0o700 {
			t.Errorf("%s has mode %04o, want 0700", dir, m)
		}
	}

	// A data directory that was there before, as an administrator or a container made it,
	// and a store that an earlier version left open to others.
	if err := os.Chmod(c.Data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(c.Data, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := logged(t, c)
	if m := mode(t, filepath.Join(c.Data, "store")); m != 0o700 {
		t.Errorf("the store has mode %04o, want 0700", m)
	}
	if m := mode(t, c.Data); m != 0o755 {
		t.Errorf("the data directory got mode %04o; it is not pim's to change", m)
	}
	for _, want := range []string{"its directory is now closed to them", "run: chmod 700 " + c.Data} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
}

func TestTLSKeyThatEveryoneReads(t *testing.T) {
	c, _ := withTLS(t, good(t, ""))
	for mode, warned := range map[fs.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(c.TLSKey[0], mode); err != nil {
			t.Fatal(err)
		}
		if log := logged(t, c); strings.Contains(log, "may read the TLS key; run: chmod 600 "+c.TLSKey[0]) != warned {
			t.Errorf("mode %04o: warned %v:\n%s", mode, !warned, log)
		}
	}
}

// If the key file of a store is gone no new one is made: every token would be refused.
func TestKeysGone(t *testing.T) {
	c := config(t)
	logged(t, c)
	if err := os.Remove(c.KeysPath()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Shutdown(t.Context())
	}
	if pim.KindOf(err) != pim.KindNotFound || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("%v, want not found, and what to do", err)
	}
	if after, _ := os.ReadDir(c.Data); len(after) != len(before) {
		t.Errorf("%v were made of %v", after, before)
	}
}
