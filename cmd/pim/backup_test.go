package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A backup that is made while messages are sent has all that was acknowledged before. It is put
// back and served, and the messages are there for those who have the old server's tokens.
func TestBackup(t *testing.T) {
	n := serve(t)
	dir := t.TempDir()
	for i := range 20 {
		n.ok("", "send", "--as", "alice", "--to", "bob", fmt.Sprint("before ", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		for i := 0; ctx.Err() == nil; i++ {
			pimWith(ctx, "", n.args([]string{"send", "--as", "alice", "--to", "carol", fmt.Sprint("meanwhile ", i)})...)
		}
	}()
	to := filepath.Join(dir, "new", "backup")
	stdout, stderr, status := pimWith(t.Context(), "", "backup", "--data", n.data, "--to", to, "--json")
	cancel()
	<-sending
	var made backupJSON
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || status != exitOK {
		t.Fatalf("status %d, %s%s, %v", status, stdout, stderr, err)
	}
	if made.Dir != to || made.Logs < 2 || made.Entries < 20 || made.Cells == 0 || made.Bytes == 0 || !made.Keys {
		t.Errorf("%s", stdout)
	}
	for _, path := range []string{to, filepath.Join(to, "keys.json"), filepath.Join(to, "store")} {
		if info, err := os.Stat(path); err != nil || path != filepath.Join(to, "store") && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	back := filepath.Join(dir, "back")
	if stdout, stderr, status := pimWith(t.Context(), "", "restore", "--from", to, "--data", back); status != exitOK || !strings.Contains(stdout, "start the server") {
		t.Fatalf("restore: status %d, %s%s", status, stdout, stderr)
	}
	token, _, _ := pimWith(t.Context(), "", "token", "--user", "bob", "--data", n.data)
	again := serve(t, "--data", back)
	again.data = back
	lines := again.ok("", "tail", "--token", strings.TrimSpace(token), "--to", "alice", "--no-follow")
	for i := range 20 {
		if want := fmt.Sprint("before ", i); !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("%q is not there", want)
		}
	}
	again.ok("", "send", "--as", "bob", "--to", "alice", "after")
	n.ok("", "send", "--as", "bob", "--to", "alice", "the old one goes on")
}

// A backup of a stopped server's directory is made by the command itself, and a socket that a
// killed server has left hinders nobody.
func TestBackupOfAStoppedServer(t *testing.T) {
	dir := t.TempDir()
	t.Run("served", func(t *testing.T) { // the server ends with the subtest
		n := serve(t, "--data", filepath.Join(dir, "data"))
		n.data = filepath.Join(dir, "data")
		n.ok("", "send", "--as", "alice", "--to", "bob", "hello")
	})
	data := filepath.Join(dir, "data")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(data, "admin.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	to := filepath.Join(dir, "backup")
	if stdout, stderr, status := pimWith(t.Context(), "", "backup", "--data", data, "--to", to); status != exitOK || !strings.Contains(stdout, "found whole") {
		t.Fatalf("status %d, %s%s", status, stdout, stderr)
	}
	n := serve(t, "--data", data)
	n.data = data
	if stdout, stderr, status := pimWith(t.Context(), "", "backup", "--data", data, "--to", to+"2"); status != exitOK {
		t.Errorf("status %d, %s%s", status, stdout, stderr)
	}
}

// Whoever backs up or restores to a wrong place is told so, and nothing is changed.
func TestBackupRefuses(t *testing.T) {
	n, dir := serve(t), t.TempDir()
	n.ok("", "send", "--as", "alice", "--to", "bob", "hello")
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	refuses := func(want string, status int, args ...string) {
		t.Helper()
		_, stderr, got := pimWith(t.Context(), "", args...)
		if got != status || !strings.Contains(stderr, want) {
			t.Errorf("pim %s: status %d, %q; want %d with %q", strings.Join(args, " "), got, stderr, status, want)
		}
	}
	backup := filepath.Join(dir, "backup")
	refuses("there is no store", exitUsage, "backup", "--data", filepath.Join(dir, "nowhere"), "--to", backup)
	refuses("not an empty directory", exitUsage, "backup", "--data", n.data, "--to", full)
	refuses("lies in the store", exitUsage, "backup", "--data", n.data, "--to", filepath.Join(n.data, "store", "x"))
	refuses("not an empty directory", exitUsage, "backup", "--data", n.data, "--to", filepath.Join(n.data, "keys.json"))
	refuses("not an empty directory", exitUsage, "backup", "--data", n.data, "--to", filepath.Join(n.data, "keys.json", "x"))

	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := pimWith(t.Context(), "", "backup", "--data", n.data, "--to", empty); status != exitOK {
		t.Fatalf("status %d, %s", status, stderr)
	}
	refuses("there is a store", exitUsage, "restore", "--from", empty, "--data", n.data)
	refuses("there is no store", exitUsage, "restore", "--from", full, "--data", backup)
	files, err := os.ReadDir(filepath.Join(empty, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "MANIFEST") {
			if err := os.Remove(filepath.Join(empty, "store", f.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	refuses("corrupt", exitFailed, "restore", "--from", empty, "--data", backup)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
