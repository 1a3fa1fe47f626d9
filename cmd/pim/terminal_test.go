//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// inTerminal starts a server in a terminal of its own, through the given shell command. It
// returns the terminal and the file of the log.
func inTerminal(t *testing.T, command string) (cmd *exec.Cmd, term *os.File, log string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // a server that does not end is killed
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "sh", "-c", command, self, "serve", "--json", "--data", t.TempDir(),
		"--listen", "127.0.0.1:0", "--listen-tcp", "", "--drain-window", "0s")
	cmd.Env = append(os.Environ(), "LOG="+log)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	t.Cleanup(func() { _ = ours.Close() })
	cmd.Stdin = theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	// Whoever runs the tests under nohup ignores SIGHUP, and a child would inherit that.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var l listening
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&l); err != nil {
		t.Error(err)
	}
	return cmd, ours, log
}

// logged waits until the log has a line.
func logged(t *testing.T, file, want string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log: %s, %v", want, b, err)
		}
	}
}

// A server that was started in a terminal stops when the terminal is closed: nobody sees
// the server any more, and it would keep its port. A SIGHUP before that asks for a reload.
func TestTerminalIsClosed(t *testing.T) {
	cmd, term, log := inTerminal(t, `exec "$0" "$@" 2>"$LOG"`)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	logged(t, log, "SIGHUP: the keys and the certificate in use are those of the files")
	_ = term.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after its terminal was closed: %v", err)
	}
	logged(t, log, "stopping, since the terminal was closed")
}

// A server under nohup outlives its terminal.
func TestTerminalIsClosedUnderNohup(t *testing.T) {
	cmd, term, log := inTerminal(t, `trap "" HUP; exec "$0" "$@" 2>"$LOG"`)
	_ = term.Close() // the kernel sends SIGHUP
	logged(t, log, "SIGHUP: the keys and the certificate in use are those of the files")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	logged(t, log, "stopping; a second signal stops at once")
}

func TestLossOfTerminal(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	has := true
	server := func(there bool) *ownTerminal {
		has = there
		return &ownTerminal{look: func() bool { return has }, there: there}
	}
	if s := server(false); s.hungUp(at(1)) || s.closed(at(2)) {
		t.Error("a server that never had a terminal has lost it")
	}
	s := server(true)
	if s.hungUp(at(1)) || s.closed(at(2)) {
		t.Error("a SIGHUP alone has closed the terminal")
	}
	if has = false; s.closed(at(60)) || s.hungUp(at(120)) {
		t.Error("a server whose terminal went without a SIGHUP ends at the next reload")
	}
	if s = server(true); s.hungUp(at(1)) { // a shell that exits
		t.Error("closed too early")
	}
	if has = false; !s.closed(at(2)) {
		t.Error("the terminal went behind the SIGHUP: not seen")
	}
	s = server(true)
	if has = false; s.closed(at(1)) || !s.hungUp(at(2)) {
		t.Error("the terminal went before the SIGHUP: not seen")
	}
}
