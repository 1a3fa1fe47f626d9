package nats

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link"
	"github.com/pim-im/pim/imtest/fault"
)

const gap = "(gap)"

// node is a started node that notes what comes.
type node struct {
	*Bus
	t *testing.T

	mu      sync.Mutex
	came    map[string]string // by sender: bodies and gaps, each with a space behind it
	changed chan struct{}     // closed and made anew with each note
}

// start starts a node that joins those which are there. It is closed at the end of the test.
func (n *nodes) start(name string) *node {
	n.t.Helper()
	return startNode(n.t, n.join(name).(*Bus))
}

func startNode(t *testing.T, b *Bus) *node {
	t.Helper()
	l := &node{Bus: b, t: t, came: map[string]string{}, changed: make(chan struct{})}
	note := func(from, what string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if from != "" {
			l.came[from] += what + " "
		}
		close(l.changed)
		l.changed = make(chan struct{})
	}
	t.Cleanup(b.Close)
	err := b.Start(context.Background(), &bus.Handler{
		Receive: map[bus.Kind]func(string, []byte){bus.KindHint: func(from string, body []byte) { note(from, string(body)) }},
		Gap:     []func(string){func(from string) { note(from, gap) }},
		Changed: []func(*bus.View){func(*bus.View) { note("", "") }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *node) heard(from string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.came[from]
}

// wait waits until is returns true.
func (l *node) wait(what string, is func() bool) {
	l.t.Helper()
	timeout := time.After(time.Minute)
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if is() {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("node %s: %s: not within a minute; the view is %v", l.Self(), what, l.View().Nodes)
		}
	}
}

func (l *node) sees(others ...string) {
	l.t.Helper()
	l.wait("a view of itself and "+strings.Join(others, ", "), func() bool {
		view := l.View()
		for _, name := range others {
			if view.Node(name) == nil {
				return false
			}
		}
		return len(view.Nodes) == len(others)+1
	})
}

// TestCutLink has the only link between two nodes swallow what is sent, and be sound again.
func TestCutLink(t *testing.T) {
	t.Parallel()
	n := newNodes(t, Options{})
	a := n.start("a")
	proxy, err := fault.New(a.ClusterAddr(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	o := n.common
	o.Self, o.Listen, o.Join = self("b"), "127.0.0.1:0", []string{proxy.Addr()}
	bb, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b := startNode(t, bb)
	a.sees("b")
	b.sees("a")
	send := func(body string) {
		t.Helper()
		if err := b.Send("a", bus.KindHint, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	send("1")
	a.wait("a message", func() bool { return a.heard("b") == "1 " })
	if err := proxy.Set(fault.Symmetric(fault.Path{BlackHole: true})); err != nil {
		t.Fatal(err)
	}
	send("lost")
	a.sees()
	b.sees()
	a.wait("a gap", func() bool { return a.heard("b") == "1 (gap) " })
	b.wait("a gap", func() bool { return b.heard("a") == "(gap) " })
	if err := proxy.Set(fault.Conditions{}); err != nil {
		t.Fatal(err)
	}
	a.sees("b")
	b.sees("a")
	send("2")
	a.wait("a message over the new link", func() bool { return strings.HasSuffix(a.heard("b"), "(gap) 2 ") })
}

// TestStrangers has a node come with another token, and one with a certificate of another authority.
func TestStrangers(t *testing.T) {
	t.Parallel()
	ours, theirs := makeCA(t), makeCA(t)
	n := newNodes(t, Options{Token: "right", TLS: ours.files(t, "node")})
	a := n.start("a")
	b := n.start("b")
	a.sees("b")
	b.sees("a")
	strangers := []*node{}
	for name, o := range map[string]Options{
		"token":   {Token: "wrong", TLS: ours.files(t, "token")},
		"no-ca":   {Token: "right", TLS: theirs.files(t, "no-ca")},
		"no-tls":  {Token: "right"},
		"nothing": {},
	} {
		o.Self, o.Listen, o.Join, o.Logger = self(name), "127.0.0.1:0", []string{a.ClusterAddr()}, n.common.Logger
		stranger, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, startNode(t, stranger))
	}
	// One that may join comes after the strangers, and is let in.
	n.start("c").sees("a", "b")
	time.Sleep(2 * time.Second)
	a.sees("b", "c")
	for _, s := range strangers {
		s.sees()
	}
	mixed := ours.files(t, "mixed")
	mixed.Cert, mixed.Key = theirs.files(t, "node").Cert, theirs.files(t, "node").Key
	if _, err := New(Options{Self: self("d"), Listen: "127.0.0.1:0", TLS: mixed}); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a certificate of another authority than its own: %v", err)
	}
}

// TestOutsideServer has nodes use a NATS server that somebody else runs, and that is started again.
func TestOutsideServer(t *testing.T) {
	t.Parallel()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: "secret", NoSigs: true, MaxPayload: 4 << 20}
	s := startOutside(t, o)
	n := newNodes(t, Options{Servers: []string{s.ClientURL()}, Token: "secret"})
	a, b := n.start("a"), n.start("b")
	a.sees("b")
	b.sees("a")
	if err := a.Send("b", bus.KindHint, []byte("1")); err != nil {
		t.Fatal(err)
	}
	b.wait("a message", func() bool { return b.heard("a") == "1 " })
	o.Port = s.Addr().(*net.TCPAddr).Port
	s.Shutdown()
	s.WaitForShutdown()
	a.sees()
	b.sees()
	startOutside(t, o)
	a.sees("b")
	b.sees("a")
	if err := a.Send("b", bus.KindHint, []byte("2")); err != nil {
		t.Fatal(err)
	}
	b.wait("a message after the server was started again", func() bool { return strings.HasSuffix(b.heard("a"), "(gap) 2 ") })
}

// TestSmallOutsideServer has nodes use a NATS server that does not take the largest frames.
func TestSmallOutsideServer(t *testing.T) {
	t.Parallel()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, MaxPayload: link.MaxFrame - 1}
	small := startOutside(t, o)
	n := newNodes(t, Options{Servers: []string{small.ClientURL()}})
	late := n.join("late").(*Bus)
	err := late.Start(context.Background(), &bus.Handler{})
	late.Close()
	if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("a node starts: %v", err)
	}

	// It is started again with less than it had.
	o.Port = small.Addr().(*net.TCPAddr).Port
	stop := func(s *server.Server) {
		s.Shutdown()
		s.WaitForShutdown()
	}
	stop(small)
	o.MaxPayload = link.MaxFrame
	enough := startOutside(t, o)
	a, b := n.start("a"), n.start("b")
	a.sees("b")
	b.sees("a")
	stop(enough)
	a.sees()
	b.sees()
	o.MaxPayload = link.MaxFrame - 1
	small = startOutside(t, o)
	for a.network.conn.Stats().Reconnects == 0 || b.network.conn.Stats().Reconnects == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(3 * time.Second) // some beats
	a.sees()
	b.sees()
	stop(small)
	o.MaxPayload = link.MaxFrame
	startOutside(t, o)
	a.sees("b")
	b.sees("a")
}

func startOutside(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

// ca is a certificate authority.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func makeCA(t *testing.T) *ca {
	t.Helper()
	c := &ca{file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &c.key.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, c.file, "CERTIFICATE", der)
	return c
}

// files makes a certificate and its key.
func (c *ca) files(t *testing.T, name string) *TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := &TLS{CA: c.file, Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	writePEM(t, files.Cert, "CERTIFICATE", der)
	writePEM(t, files.Key, "PRIVATE KEY", keyDER)
	return files
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkSend counts what a message of 1 KiB costs from one node to another, both in this process.
func BenchmarkSend(b *testing.B) {
	from, done := benchNodes(b)
	defer done()
	body := make([]byte, 1024)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		for from.Send("b", bus.KindHint, body) != nil {
			time.Sleep(time.Millisecond) // too much waits to be sent
		}
	}
}

// BenchmarkRequest counts how long a request of 1 KiB takes, one after the other.
func BenchmarkRequest(b *testing.B) {
	from, done := benchNodes(b)
	defer done()
	body := make([]byte, 1024)
	for b.Loop() {
		if _, err := from.Request(context.Background(), "b", bus.KindJoin, body); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNodes(b *testing.B) (from *Bus, done func()) {
	b.Helper()
	there := make(chan struct{}, 16)
	open := func(name string, join ...string) *Bus {
		node, err := New(Options{Self: self(name), Listen: "127.0.0.1:0", Join: join})
		if err == nil {
			err = node.Start(context.Background(), benchHandler(there))
		}
		if err != nil {
			b.Fatal(err)
		}
		return node
	}
	from = open("a")
	to := open("b", from.ClusterAddr())
	<-there
	<-there
	return from, func() { from.Close(); to.Close() }
}

// benchHandler returns a Handler that tells of a view of two nodes.
func benchHandler(there chan<- struct{}) *bus.Handler {
	return &bus.Handler{
		Receive: map[bus.Kind]func(string, []byte){bus.KindHint: func(string, []byte) {}},
		Answer: map[bus.Kind]func(context.Context, string, []byte) ([]byte, error){
			bus.KindJoin: func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil },
		},
		Changed: []func(*bus.View){func(v *bus.View) {
			if len(v.Nodes) == 2 && there != nil {
				there <- struct{}{}
			}
		}},
	}
}
