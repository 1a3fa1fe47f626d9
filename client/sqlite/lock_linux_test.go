package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/sqlite"
)

// locksOn counts SQLite's locks on the file at path: those of fcntl.
func locksOn(t *testing.T, path string) (n int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Skip("no list of locks here: ", err)
	}
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, "POSIX") && strings.Contains(line, inode) {
			n++
		}
	}
	return n
}

// When an Open is refused because the file is open already, the Store that has it open
// keeps all of SQLite's locks. A process would lose them as soon as it closes any
// descriptor of the file.
func TestRefusalTakesNoLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	first := open(t, path)
	defer first.Close()
	before := locksOn(t, path)
	if before == 0 {
		t.Skip("SQLite's locks are not listed here")
	}
	for what, name := range names(t, path) {
		if s, err := sqlite.Open(t.Context(), name); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("%s: %v, %v; want kind conflict", what, s, err)
		}
		if now := locksOn(t, path); now != before {
			t.Errorf("%s: %d locks are left of %d", what, now, before)
		}
	}
}
