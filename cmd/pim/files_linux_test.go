package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// limited is a server process that may have only few open files.
type limited struct {
	listening
	cmd *exec.Cmd
	log strings.Builder
}

func serveLimited(t *testing.T, files int) *limited {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := new(limited)
	l.cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), self, "serve", "--json", "--data", t.TempDir(),
		"--listen", "127.0.0.1:0", "--listen-tcp", "127.0.0.1:0", "--drain-window", "0s")
	l.cmd.Stderr = &l.log
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(out).Decode(&l.listening); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return l
}

func (l *limited) files(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A node that may have only few open files takes few connections, and says so. However
// many connections come, over TCP, HTTP or both, some files are left for the store, and
// /readyz answers.
func TestFewFiles(t *testing.T) {
	const limit = 400
	l := serveLimited(t, limit)
	page := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	ready := func() int {
		t.Helper()
		resp, err := page.Get(l.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if status := ready(); status != 200 {
		t.Fatalf("/readyz: %d", status)
	}
	for _, addresses := range [][]string{{l.TCP, l.TCP}, {l.HTTP, l.HTTP}, {l.HTTP, l.TCP}} {
		var strangers []net.Conn
		for i := range 2 * limit {
			nc, err := net.Dial("tcp", addresses[i*2/(2*limit)])
			if err != nil {
				t.Fatal(err)
			}
			strangers = append(strangers, nc)
		}
		if status := ready(); status != 200 {
			t.Errorf("/readyz among strangers at %v: %d", addresses, status)
		}
		if n := l.files(t); n > limit-leastFree {
			t.Errorf("%d of %d files are open with strangers at %v", n, limit, addresses)
		}
		for _, nc := range strangers {
			nc.Close()
		}
	}
	page.CloseIdleConnections()
	n := &node{t: t, url: l.URL, data: l.Data}
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, l.log.String())
	}
	if !strings.Contains(l.log.String(), "fewer connections than max-connections") {
		t.Errorf("the log does not say that there are few files: %s", l.log.String())
	}
}

// leastFree is how many files must be left for the store: most of its share.
const leastFree = 150

// With too few files for any node, the server does not start, and says what to do.
func TestTooFewFiles(t *testing.T) {
	l := serveLimited(t, 100)
	if err := l.cmd.Wait(); err == nil || l.cmd.ProcessState.ExitCode() != exitUsage {
		t.Errorf("ended with %v", err)
	}
	if said := l.log.String(); !strings.Contains(said, "may have 100 open files") || !strings.Contains(said, "ulimit -n") {
		t.Errorf("said %q", said)
	}
}
