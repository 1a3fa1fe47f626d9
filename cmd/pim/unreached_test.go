package main

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// clientCommands are a command line of each command that talks to a server, without saying who the user is.
var clientCommands = []string{
	"send --to bob hi", "send --to bob -", "send --to bob --reply 1 hi",
	"tail --to bob", "tail --to bob --from 3", "tail --to bob --no-follow",
	"list", "settings", "chat --to bob --plain",
	"group create bob", "group join g:1 bob", "group leave g:1", "group members g:1",
	"group invitations", "group accept g:1", "group decline g:1", "group adders known",
	"edit --to bob 1 hi", "recall --to bob 1", "react --to bob 1 +1", "pin-message --to bob 1",
	"erase --to bob", "erase --to bob --dry-run", "erase --all", "retain --to bob", "retain --to bob 30d",
	"mute --to bob", "pin --to bob", "block bob", "contact bob Bob",
	"read --to bob", "unread --to bob",
	"devices", "devices sign-out phone", "receipts --to bob", "receipts --switch off", "look --to bob", "look --switch off",
}

// The list above leaves no command out: those that are a device of a user.
func TestClientCommandsAreAll(t *testing.T) {
	known := map[string]bool{}
	for _, line := range clientCommands {
		path, err := parses(t, strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		known[path] = true
	}
	parser, err := newParser(&grammar{}, streams{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range parser.Model.Leaves(false) {
		device := slices.ContainsFunc(cmd.Flags, func(f *kong.Flag) bool { return f.Name == "device" })
		server := slices.ContainsFunc(cmd.Flags, func(f *kong.Flag) bool { return f.Name == "server" })
		if device && server && !known[cmd.Path()] {
			t.Errorf("clientCommands has no line of %q", cmd.Path())
		}
	}
}

// badServer listens, and hands each connection to do.
func badServer(t *testing.T, do func(*net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// schemes returns the protocols with which a test tries the i-th command: both, or one of them with
// -short, since opening a local store is slow under the race detector.
func schemes(i int) []string {
	both := []string{"http", "tcp"}
	if testing.Short() {
		return both[i%2 : i%2+1]
	}
	return both
}

// A server that breaks the connection off is one that cannot be reached, whatever the command and the
// protocol.
func TestAServerThatBreaksOff(t *testing.T) {
	token := serve(t).token("alice", "1h")
	first := make([]byte, 1)
	address := badServer(t, func(c *net.TCPConn) {
		c.Read(first)
		c.SetLinger(0) // a reset
		c.Close()
	})
	for i, line := range clientCommands {
		for _, scheme := range schemes(i) {
			server := scheme + "://" + address
			args := append([]string{}, strings.Fields(line)...)
			args = append(args, "--server", server, "--token", token, "--data", t.TempDir())
			_, stderr, status := pimWith(t.Context(), "", args...)
			if status != exitUnavailable || !strings.Contains(stderr, "the connection to "+server+" broke off: connection reset by peer") {
				t.Errorf("%s, %s: status %d, %q", scheme, line, status, stderr)
			}
		}
	}
	n := &node{t: t, url: "http://" + address, data: serve(t).data}
	_, stderr, status := n.pim("", "bench", "direct", "--users", "2", "--duration", "10ms", "--warmup", "0s")
	if status != exitUnavailable {
		t.Errorf("bench: status %d, %q", status, stderr)
	}
	_, stderr, status = n.pim("", "list", "--as", "alice", "--json")
	if status != exitUnavailable || !strings.Contains(stderr, `"error_kind":"unavailable"`) {
		t.Errorf("with --json: status %d, %q", status, stderr)
	}
}

// --timeout bounds the connecting of every command, and the error says that it was that.
func TestTimeoutOfAConnection(t *testing.T) {
	token := serve(t).token("alice", "1h")
	var held []*net.TCPConn // silent ones
	t.Cleanup(func() {      // after badServer's own, which ends the goroutine that appends
		for _, c := range held {
			c.Close()
		}
	})
	address := badServer(t, func(c *net.TCPConn) { held = append(held, c) })
	for i, line := range clientCommands {
		for _, scheme := range schemes(i) {
			server := scheme + "://" + address
			args := append(strings.Fields(line), "--server", server, "--token", token, "--data", t.TempDir(), "--timeout", "20ms")
			_, stderr, status := pimWith(t.Context(), "", args...)
			if status != exitUnavailable || !strings.Contains(stderr, "no connection to "+server+" within 20ms") {
				t.Errorf("%s, %s: status %d, %q", scheme, line, status, stderr)
			}
		}
	}
}

// A server that no longer answers once the connection is made ends each command that waits for an
// answer with status 3 after --timeout. Those that go on by themselves may go on.
func TestTimeoutOfAnAnswer(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	mute := muted(t, n.tcp)
	for _, line := range clientCommands {
		if line == "chat --to bob --plain" || line == "tail --to bob" || line == "send --to bob -" { // nothing to wait for
			continue
		}
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			// On a busy machine the connection may take longer than that, too.
			for wait := 200 * time.Millisecond; ; wait *= 2 {
				args := append(strings.Fields(strings.ReplaceAll(line, "g:1", group)), "--server", "tcp://"+mute, "--as", "alice", "--data", n.data, "--timeout", wait.String())
				_, stderr, status := pimWith(t.Context(), "", args...)
				if wait < time.Minute && strings.Contains(stderr, "no connection") {
					continue
				}
				if status != exitUnavailable || !strings.Contains(stderr, " within "+wait.String()) {
					t.Errorf("status %d, %q", status, stderr)
				}
				return
			}
		})
	}
}

// If the server dies while a command waits for an answer, the error says so, and the status is 3.
func TestAServerThatDiesMeanwhile(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	for _, line := range clientCommands {
		if line == "chat --to bob --plain" || line == "tail --to bob" || line == "send --to bob -" { // nothing to wait for
			continue
		}
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			for wait := 200 * time.Millisecond; ; wait *= 2 {
				dying := letsIn(t, n.tcp, func(client, server net.Conn) { client.Close(); server.Close() })
				args := append(strings.Fields(strings.ReplaceAll(line, "g:1", group)), "--server", "tcp://"+dying, "--as", "alice", "--data", n.data, "--timeout", wait.String())
				_, stderr, status := pimWith(t.Context(), "", args...)
				if wait < time.Minute && !strings.Contains(stderr, "broke off") {
					continue // a busy machine: the client was not let in, or has not seen the end of the connection
				}
				if status != exitUnavailable || !strings.Contains(stderr, " within "+wait.String()+": the connection to tcp://"+dying+" broke off") {
					t.Errorf("status %d, %q", status, stderr)
				}
				return
			}
		})
	}
}

// muted returns the address of a proxy to the server at target (raw TCP). It passes on all that a client
// says, and of what the server says only the first frame, which lets the client in.
func muted(t *testing.T, target string) (address string) {
	return letsIn(t, target, func(_, server net.Conn) { io.Copy(io.Discard, server) })
}

// letsIn is muted, but for what becomes of a connection once the client is let in: that is what then does.
func letsIn(t *testing.T, target string, then func(client, server net.Conn)) (address string) {
	t.Helper()
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
	})
	return badServer(t, func(c *net.TCPConn) {
		server, err := net.Dial("tcp", strings.TrimPrefix(target, "tcp://"))
		all = append(all, c)
		if err != nil {
			return
		}
		all = append(all, server)
		go io.Copy(server, c)
		go func() {
			var size [4]byte
			if _, err := io.ReadFull(server, size[:]); err != nil {
				return
			}
			c.Write(size[:])
			io.CopyN(c, server, int64(binary.BigEndian.Uint32(size[:])))
			then(c, server)
		}()
	})
}
