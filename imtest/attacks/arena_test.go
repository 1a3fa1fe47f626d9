package attacks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

// built is the program that all tests attack.
var built struct {
	sync.Once
	dir, pim string
	err      error
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(building{m})) }

type building struct{ *testing.M }

func (b building) Run() int {
	defer func() { os.RemoveAll(built.dir) }()
	return b.M.Run()
}

// patience tells a hang.
const patience = 5 * time.Minute

// arena is a server, the bystanders who talk over it, and what attackers need.
type arena struct {
	t *testing.T
	attack
	server *process.Process
	keys   *account.Keys
	signer *lbs.Signer // leases

	alice, bob *client.Client
	heard      chan string // what bob is handed
	spoken     int

	done   chan struct{} // the attack has done what it is there for
	enough func()        // closes done
}

// open starts a server and connects the bystanders. They end with the test.
func open(t *testing.T, at attack) *arena {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pim-attacks"); built.err == nil {
			built.pim = filepath.Join(built.dir, "pim")
			built.err = process.Build(built.pim)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	a := &arena{t: t, attack: at, heard: make(chan string, 16), done: make(chan struct{})}
	a.enough = sync.OnceFunc(func() { close(a.done) })
	dir := t.TempDir()
	var err error
	if a.keys, err = account.CreateDevelopmentKey(filepath.Join(dir, "keys.json")); err != nil {
		t.Fatal(err)
	}
	command := append([]string{built.pim, "serve", "--node", "one", "--drain-window", "0s", "--no-consent"}, at.settings...)
	if at.proxied {
		command = append(command, "--trusted-proxies", "127.0.0.0/8")
	}
	if at.leases {
		secret := bytes.Repeat([]byte("secret"), 8)
		path := filepath.Join(dir, "secret")
		if err := os.WriteFile(path, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		if a.signer, err = lbs.NewSigner(secret); err != nil {
			t.Fatal(err)
		}
		command = append(command, "--lbs-secret-file", path)
	}
	if a.server, err = process.Start(t.Context(), command, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.server.Stop)
	a.alice, a.bob = a.bystander("alice"), a.bystander("bob")
	var work sync.WaitGroup
	work.Go(func() {
		for range a.alice.Events() {
		}
	})
	work.Go(func() {
		for ev := range a.bob.Events() {
			if e, ok := ev.(client.EntryEvent); ok && e.Entry.Kind == pim.EntryMessage {
				a.heard <- string(e.Entry.Payload)
			}
		}
		close(a.heard)
	})
	t.Cleanup(func() {
		a.alice.Close()
		go func() {
			for range a.heard { // what the test did not wait for
			}
		}()
		a.bob.Close()
		work.Wait()
	})
	return a
}

// bystander connects an honest user.
func (a *arena) bystander(user pim.UserID) *client.Client {
	a.t.Helper()
	o := client.Options{
		Server: a.server.URL(false), User: user, Device: "phone", Direct: !a.leases,
		Token: func(context.Context) (string, error) { return a.keys.Issue(user, time.Hour, time.Now()) },
	}
	if a.proxied {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return a.dialFrom(ctx, address, "198.51.100.7")
		}
	}
	c, err := client.Open(a.t.Context(), o)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// dialFrom connects as a proxy does for a client at from, if everybody comes through one.
func (a *arena) dialFrom(ctx context.Context, address, from string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil || !a.proxied {
		return nc, err
	}
	if _, err := fmt.Fprintf(nc, "PROXY TCP4 %s 127.0.0.1 50000 443\r\n", from); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// talk has alice say one thing after the other to bob, at least n and until the channel is closed, and returns how long each
// took to be handed to bob, sorted. Nothing may be missing, twice, or at another place.
func (a *arena) talk(n int, until <-chan struct{}) (took []time.Duration) {
	a.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for over := until == nil; len(took) < n || !over; {
		a.spoken++
		text := fmt.Sprint("message ", a.spoken)
		begun := time.Now()
		if _, err := a.alice.Send(a.t.Context(), pim.Direct("alice", "bob"), []byte(text)); err != nil {
			a.t.Fatal(err)
		}
		select {
		case got := <-a.heard:
			if got != text {
				a.t.Fatalf("bob is handed %q and not %q", got, text)
			}
		case <-late.C:
			a.t.Fatalf("%q has not come", text)
		}
		took = append(took, time.Since(begun))
		if !over {
			select {
			case <-until:
				over = true
			default:
			}
		}
	}
	slices.Sort(took)
	return took
}

// afterwards waits until nothing is left of the attack: only the bystanders are connected.
func (a *arena) afterwards() {
	a.t.Helper()
	a.eventually("only the bystanders are connected", func() bool { return a.metric("pim_connections", "") == 2 })
	a.talk(3, nil)
}

// eventually waits until what is so.
func (a *arena) eventually(what string, so func() bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	for !so() {
		if !imtest.Pause(ctx, 20*time.Millisecond) {
			a.t.Errorf("%s: it is not so", what)
			return
		}
	}
}

// metric returns the sum of a metric over all its labels, or of those samples whose labels are these. If the page
// cannot be read, as when the server has as many connections as it takes, it is -1.
func (a *arena) metric(name, labels string) int {
	resp, err := (&http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}).Get(a.server.URL(false) + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return -1
	}
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{(.*)\})? (\S+)$`).FindAllStringSubmatch(string(page), -1) {
		if labels == "" || m[1] == labels {
			v, _ := strconv.ParseFloat(m[2], 64)
			sum += v
		}
	}
	return int(sum)
}

// address returns where the server listens.
func (a *arena) address(tcp bool) string {
	_, address, _ := strings.Cut(a.server.URL(tcp), "://")
	return address
}

// token returns a good token. It is an error of the test if there is none.
func (a *arena) token(user pim.UserID) string {
	token, err := a.keys.Issue(user, time.Hour, time.Now())
	if err != nil {
		a.t.Error(err)
	}
	return token
}

// session is a connection of an attacker.
type session struct {
	transport.Conn
	nc net.Conn // below it
}

// hello connects by TCP, says Hello, and returns the connection and the first answer. An error: there was none.
func (a *arena) hello(ctx context.Context, from string, hello *wirepb.Hello) (*session, wire.Message, error) {
	nc, err := a.dialFrom(ctx, a.address(true), from)
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetLinger(0) // the kernel keeps nothing of it, or there would be no port for the next ones
	}
	hello.Version = wire.Version
	conn := &session{transport.NewTCP(nc), nc}
	if err := conn.Write([][]byte{wire.Append(nil, hello)}); err != nil {
		conn.Close()
		return nil, nil, err
	}
	m, err := read(conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, m, nil
}

func read(conn transport.Conn) (wire.Message, error) {
	frame, err := conn.Read()
	if err != nil {
		return nil, err
	}
	_, m, err := wire.Decode(bytes.Clone(frame))
	return m, err
}

// refused returns the error that a message is, nil if it is another.
func refused(m wire.Message) *wirepb.PIMError {
	e, _ := m.(*wirepb.PIMError)
	return e
}
