package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
)

// If clocks differ, the error does not blame the key.
func TestClocksThatDiffer(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": -45 * time.Second, "ahead": 25 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := server.Defaults()
			c.Consent = false // people here are strangers
			c.Data, c.Listen, c.ListenTCP = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", ""
			s, err := server.New(c, server.Options{
				Logger: slog.New(slog.DiscardHandler), Clock: clock.Source{Now: func() time.Time { return time.Now().Add(ahead) }},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel() // no grace: nobody is connected
				_ = s.Shutdown(ctx)
			})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := &node{t: t, url: "http://" + s.Addr(), data: c.Data}
			for _, command := range [][]string{{"send", "hi", "--as", "alice", "--to", "bob"}, {"bench", "direct", "--users", "2", "--duration", "10ms", "--warmup", "0s"}} {
				_, stderr, status := n.pim("", command...)
				if status != exitRefused || !strings.Contains(stderr, "the clocks of this machine and of the server are more than 30s apart") || strings.Contains(stderr, "the key in") {
					t.Errorf("%s: status %d, %q", command[0], status, stderr)
				}
			}
			token := n.token("alice", "24h")
			_, stderr, status := pimWith(t.Context(), "", "send", "hi", "--server", n.url, "--token", token, "--to", "bob")
			if status != exitRefused || !strings.Contains(stderr, "the clocks of who issued it and of the server are more than 30s apart") {
				t.Errorf("with a token: status %d, %q", status, stderr)
			}
		})
	}
}

// token returns a token of the server's key.
func (n *node) token(user, ttl string) string {
	n.t.Helper()
	stdout, stderr, status := pimWith(n.t.Context(), "", "token", "--data", n.data, "--user", user, "--ttl", ttl)
	if status != exitOK {
		n.t.Fatalf("token: status %d: %s", status, stderr)
	}
	return strings.TrimSpace(stdout)
}

// A server that cannot listen on its addresses leaves nothing behind.
func TestATakenPortLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ http, tcp, pprof, want string }{
		{taken.Addr().String(), "", "", "another server may be running"},
		{"127.0.0.1:0", taken.Addr().String(), "", "another server may be running"},
		{"127.0.0.1:0", "127.0.0.1:0", taken.Addr().String(), "another server may be running"},
		{"192.0.2.1:0", "", "", "this machine has no such address"},
	} {
		parent := t.TempDir()
		_, stderr, status := pimWith(t.Context(), "", "serve", "--data", filepath.Join(parent, "data"), "--insecure",
			"--listen", c.http, "--listen-tcp", c.tcp, "--pprof-listen", c.pprof)
		if status != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%+v: status %d, %q", c, status, stderr)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
			t.Errorf("%+v: left behind: %v, %v", c, left, err)
		}
	}
}

// A key file that cannot be used because of its kind, its path or its content is a wrong
// setting: trying again does not help.
func TestKeysThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	file, loop := filepath.Join(dir, "file"), filepath.Join(dir, "loop")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(file, "keys.json"), loop, filepath.Join(dir, strings.Repeat("x", 300)), file} {
		for _, command := range [][]string{
			{"token", "--user", "alice"},
			{"send", "hi", "--as", "alice", "--to", "bob"},
			{"serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--listen-tcp", ""},
		} {
			_, stderr, status := pimWith(t.Context(), "", append(command, "--keys", path)...)
			if status != exitUsage || !strings.Contains(stderr, path) || strings.Contains(stderr, "again") {
				t.Errorf("%s with %.60s: status %d, %q", command[0], path, status, stderr)
			}
		}
	}
}

// The error about a malformed local store names the file and says what to do.
func TestAMalformedLocalStore(t *testing.T) {
	n := serve(t)
	n.ok("hi\n", "chat", "--as", "alice", "--to", "bob")
	path := filepath.Join(n.data, chatDir, "alice", "chat-1.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.refuses(path, exitFailed, "chat", "--as", "alice", "--to", "bob")
	n.refuses("move that file away and chat again", exitFailed, "chat", "--as", "alice", "--to", "bob")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	n.ok("", "chat", "--as", "alice", "--to", "bob")

	// A local store whose path cannot exist is a wrong setting.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := pimWith(t.Context(), "", "chat", "--server", n.url, "--token", n.token("alice", "1h"), "--data", file, "--to", "bob")
	if status != exitUsage || !strings.Contains(stderr, file) || !strings.Contains(stderr, "name another directory with --data") {
		t.Errorf("status %d, %q", status, stderr)
	}
}
