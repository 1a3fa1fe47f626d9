//go:build unix

package account

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pim-im/pim"
)

// A pipe in place of a file holds nobody up: without a writer it is empty, with one
// it is read.
func TestPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(path, 10); err != nil || len(data) != 0 {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := LoadKeys(path); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a key file that is a pipe: %v", err)
	}
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("0123456789a"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, 10); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("eleven bytes: %v", err)
	}
	w.Close()
	if _, err := ReadFile("/dev/zero", 1<<20); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("a file without an end: %v", err)
	}
}
