package wholefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wholefile"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// Create makes a file and its folder, and never touches one that is there. Replace does.
func TestFilesAreWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "secret")
	holds := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("the file holds %q, %v; want %q", got, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v: others may read it", info.Mode(), err)
		}
		if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
			t.Errorf("beside it: %v, %v", names, err)
		}
	}
	if err := wholefile.Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	holds("first")
	if err := wholefile.Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second Create: %v", err)
	}
	holds("first")
	if err := wholefile.Replace(path, []byte("third")); err != nil {
		t.Fatal(err)
	}
	holds("third")
}

// What can't be put in its place leaves nothing behind.
func TestFailuresLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Replace(path, []byte("data")); err == nil {
		t.Error("a file took the place of a folder")
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
