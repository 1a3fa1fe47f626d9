//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Only its own user can read what a server writes, whatever the umask that it was started
// with and whoever created the directory.
func TestServeWritesForItsUserOnly(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `umask 0; exec "$0" "$@"`, self, "serve", "--json", "--data", data, "--listen", "127.0.0.1:0", "--listen-tcp", "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var l listening
	if err := json.NewDecoder(out).Decode(&l); err != nil {
		t.Error(err)
	}
	files := 0
	err = filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // the store has removed it meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 && path != data {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		files++
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
