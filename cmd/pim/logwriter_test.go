package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// moody is a writer that fails or is stuck when a test wants it.
type moody struct {
	mu    sync.Mutex
	fails bool
	stuck chan struct{} // closed to let writes go on; nil: they do
	took  bytes.Buffer
}

func (m *moody) set(fails bool, stuck chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails, m.stuck = fails, stuck
}

func (m *moody) Write(p []byte) (int, error) {
	m.mu.Lock()
	stuck := m.stuck
	m.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails {
		return 0, errors.New("broken pipe")
	}
	return m.took.Write(p)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: ", what)
		}
	}
}

// Lines that the log's reader does not take are dropped and counted; nobody waits for it.
func TestLogWriterDrops(t *testing.T) {
	m := &moody{fails: true}
	l := newLogWriter(m)
	for i := range 3 {
		fmt.Fprintf(l, "lost %d\n", i)
	}
	eventually(t, "they are tried", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.dropped == 3 })
	m.set(false, nil)
	fmt.Fprintln(l, "again")
	l.close()
	if got, want := m.took.String(), "pim: 3 lines of the log could not be written\nagain\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// A reader that has stopped reading blocks neither the goroutines that log nor close, and
// costs no more memory than logBytes.
func TestLogWriterStuck(t *testing.T) {
	stuck := make(chan struct{})
	m := &moody{stuck: stuck}
	l := newLogWriter(m)
	line := strings.Repeat("x", 1000) + "\n"
	fmt.Fprintln(l, "the first")
	eventually(t, "it is being written", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.size == 0 })
	for range 3 * logBytes / len(line) {
		fmt.Fprint(l, line)
	}
	l.mu.Lock()
	size, dropped := l.size, l.dropped
	l.mu.Unlock()
	if size > logBytes || dropped == 0 {
		t.Errorf("%d bytes wait, %d lines are dropped", size, dropped)
	}
	l.close()
	close(stuck)
	m.set(false, nil)
	<-l.done
	if got := m.took.String(); !strings.HasPrefix(got, "the first\npim: ") || !strings.Contains(got, line) {
		t.Errorf("wrote %.100q", got)
	}
}

// The reader of the log and of the announcement dies. The server goes on, and stops in
// order when it is told to.
func TestServerOutlivesItsLog(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, outEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, logEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--json", "--data", dir, "--listen", "127.0.0.1:0", "--listen-tcp", "127.0.0.1:0", "--log-level", "debug", "--drain-window", "0s")
	cmd.Stdout, cmd.Stderr = outEnd, logEnd
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	outEnd.Close()
	logEnd.Close()
	var l listening
	if err := json.NewDecoder(out).Decode(&l); err != nil {
		t.Fatal(err)
	}
	out.Close()
	log.Close()
	n := &node{t: t, url: l.URL, data: dir}
	for i := range 5 { // each connection is logged
		n.ok("", "send", "--as", "alice", "--to", "bob", fmt.Sprint(i))
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server whose log nobody reads ended with %v", err)
	}
}
