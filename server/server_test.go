package server_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// node is a running server and the way into it.
type node struct {
	*server.Server
	t      *testing.T
	config server.Config
	keys   *account.Keys
	roots  *x509.CertPool
	wall   func() time.Time // the time at which tokens are issued
}

func start(t *testing.T, c server.Config, o server.Options) *node {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	return startLogging(t, c, o)
}

// startLogging is start with the log of o.
func startLogging(t *testing.T, c server.Config, o server.Options) *node {
	t.Helper()
	s, err := server.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, t: t, config: c, wall: time.Now}
	if o.Clock.Now != nil {
		n.wall = o.Clock.Now
	}
	t.Cleanup(n.stop)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.keys, err = account.LoadKeys(c.KeysPath()); err != nil {
		t.Fatal(err)
	}
	return n
}

func config(t *testing.T) server.Config {
	c := server.Defaults()
	c.Consent = false // people here are strangers
	c.Data, c.Listen, c.ListenTCP = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	c.ShedTarget = 0 // the machine may be too busy
	return c
}

func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		n.t.Error(err)
	}
}

// url returns the server's address for a transport: http, https, tcp, tls or quic.
func (n *node) url(scheme string) string {
	if scheme == "quic" {
		return "quic://" + n.QUICAddr()
	}
	if scheme == "tcp" || scheme == "tls" {
		return scheme + "://" + n.TCPAddr()
	}
	return scheme + "://" + n.Addr()
}

func (n *node) connect(user, device, scheme string) *app {
	n.t.Helper()
	c, err := client.Open(n.t.Context(), client.Options{
		Server: n.url(scheme), Direct: true, User: pim.UserID(user), Device: pim.DeviceID(device), TLS: &tls.Config{RootCAs: n.roots},
		Token:      func(context.Context) (string, error) { return n.keys.Issue(pim.UserID(user), time.Hour, n.wall()) },
		BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	a := &app{Client: c, t: n.t, user: pim.UserID(user)}
	n.t.Cleanup(func() { c.Close() })
	return a
}

// app is a user's program.
type app struct {
	*client.Client
	t    *testing.T
	user pim.UserID
}

// says sends text and waits for the acknowledgement, reading events meanwhile.
func (a *app) says(c pim.ConversationID, text string) client.Sent {
	a.t.Helper()
	sending, err := a.Send(a.t.Context(), c, []byte(text))
	if err != nil {
		a.t.Fatal(err)
	}
	return a.done(sending)
}

func (a *app) done(s *client.Sending) client.Sent {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 5*time.Minute)
	defer cancel()
	sent, err := s.Wait(ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	return sent
}

// sees waits until as many messages as texts have been handed over: in the order of their seqs,
// except those that are marked late. By conversation and seq they must be texts.
func (a *app) sees(texts ...string) {
	a.t.Helper()
	var got []pim.Entry
	last := map[pim.ConversationID]pim.Seq{}
	patience := time.After(5 * time.Minute)
	for len(got) < len(texts) {
		select {
		case ev := <-a.Events():
			e, ok := ev.(client.EntryEvent)
			if !ok || e.Entry.Kind != pim.EntryMessage {
				continue
			}
			if newest := last[e.Entry.Conversation]; e.Late != (e.Entry.Seq < newest) {
				a.t.Fatalf("%s saw seq %d after %d, late %v", a.user, e.Entry.Seq, newest, e.Late)
			}
			last[e.Entry.Conversation] = max(last[e.Entry.Conversation], e.Entry.Seq)
			got = append(got, e.Entry)
		case <-patience:
			a.t.Fatalf("%s saw %d messages, want %q", a.user, len(got), texts)
		}
	}
	slices.SortStableFunc(got, func(a, b pim.Entry) int {
		return cmp.Or(cmp.Compare(a.Conversation, b.Conversation), cmp.Compare(a.Seq, b.Seq))
	})
	for i, e := range got {
		if string(e.Payload) != texts[i] {
			a.t.Fatalf("%s saw %q at %d, want %q", a.user, e.Payload, e.Seq, texts[i])
		}
	}
}

func (n *node) page(path string) (int, string) {
	n.t.Helper()
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := hc.Get("http://" + n.Addr() + path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestConversationSurvivesARestart(t *testing.T) {
	c := config(t)
	n := start(t, c, server.Options{})
	alice, phone := n.connect("alice", "1", "http"), n.connect("bob", "phone", "tcp")
	chat := pim.Direct("alice", "bob")
	first := alice.says(chat, "one")
	phone.sees("one")
	n.stop()

	n = start(t, c, server.Options{})
	laptop, alice2 := n.connect("bob", "laptop", "http"), n.connect("alice", "2", "tcp")
	if second := alice2.says(chat, "two"); second.Seq != first.Seq+1 || second.Server < first.Server {
		t.Errorf("after %+v came %+v", first, second)
	}
	laptop.sees("one", "two")
}

// Welcome has what the settings say about heartbeats and reconnects.
func TestWelcomeNamesTheSettings(t *testing.T) {
	c := config(t)
	c.IdleTimeout, c.MaxHeartbeat, c.ReconnectWindow = 4*time.Minute, 7*time.Minute, 3*time.Second
	n := start(t, c, server.Options{})
	d, err := transport.NewDialer(n.url("tcp"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	token, err := n.keys.Issue("alice", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hello := &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone"}
	if err := conn.Write([][]byte{wire.Append(nil, hello)}); err != nil {
		t.Fatal(err)
	}
	frame, err := conn.Read()
	if err != nil {
		t.Fatal(err)
	}
	_, m, err := wire.Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	w, ok := m.(*wirepb.Welcome)
	if !ok || w.Limits.IdleMs != 240_000 || w.Limits.HeartbeatMs != 420_000 || w.ReconnectWindowMs != 3000 {
		t.Errorf("the first answer is %v", m)
	}
}

func TestGroupMembersReadFromTheirJoiningOn(t *testing.T) {
	n := start(t, config(t), server.Options{})
	ann, bob, eve := n.connect("ann", "1", "http"), n.connect("bob", "1", "http"), n.connect("eve", "1", "tcp")
	create, err := ann.CreateGroup(t.Context(), []pim.UserID{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	group := ann.done(create).Conversation
	ann.says(group, "before")
	refused, err := eve.Send(t.Context(), group, []byte("let me in"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refused.Wait(t.Context()); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("a stranger's message: %v", err)
	}
	if _, err := eve.Pull(t.Context(), group, 1, 0, 10, false); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("a stranger's pull: %v", err)
	}
	join, err := bob.Join(t.Context(), group, "eve")
	if err != nil {
		t.Fatal(err)
	}
	bob.done(join)
	ann.says(group, "welcome")
	leave, err := eve.Leave(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	eve.done(leave)
	ann.says(group, "gone")
	bob.sees("before", "welcome", "gone")
	eve.sees("welcome")
	page, err := eve.Pull(t.Context(), group, 1, 0, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range page.Entries {
		kinds = append(kinds, e.Kind.String())
	}
	if got := strings.Join(kinds, " "); got != "join message leave" {
		t.Errorf("eve reads %q", got)
	}
}

func TestTLS(t *testing.T) {
	c := config(t)
	var roots *x509.CertPool
	c.TLSCert, c.TLSKey, roots = selfSigned(t, c.Data)
	n := start(t, c, server.Options{})
	n.roots = roots
	alice, bob := n.connect("alice", "1", "https"), n.connect("bob", "1", "tls")
	alice.says(pim.Direct("alice", "bob"), "over TLS")
	bob.sees("over TLS")
	for _, addr := range []string{n.Addr(), n.TCPAddr()} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12})
		if err == nil {
			conn.Close()
			t.Errorf("%s speaks TLS 1.2", addr)
		}
	}
	conn, err := tls.Dial("tcp", n.TCPAddr(), &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
	if err == nil {
		conn.Close()
		t.Errorf("the address for TCP offers %s", conn.ConnectionState().NegotiatedProtocol)
	}
}

func selfSigned(t *testing.T, dir string) (certFile, keyFile []string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pim test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return []string{write("cert.pem", "CERTIFICATE", der)}, []string{write("key.pem", "PRIVATE KEY", secret)}, roots
}

// failing is a store that refuses durable commits while err is set.
type failing struct {
	store.Store
	err atomic.Pointer[pim.Error] // why commits are refused
}

func (f *failing) Health() error {
	if err := f.err.Load(); err != nil {
		return err
	}
	return nil
}

func (f *failing) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, f.commit, writes, d, done)
}

func (f *failing) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if err := f.Health(); err != nil && d == store.Durable {
		for _, w := range writes {
			w.Err = err
		}
		return err
	}
	return store.Commit(ctx, f.Store, writes, d)
}

// While the store refuses, nothing is acknowledged. What was sent meanwhile arrives once the
// store takes it again.
func TestRefusingStore(t *testing.T) {
	var f *failing
	n := start(t, config(t), server.Options{
		WrapStore: func(s store.Store) store.Store { f = &failing{Store: s}; return f },
	})
	alice, bob := n.connect("alice", "1", "http"), n.connect("bob", "1", "http")
	chat := pim.Direct("alice", "bob")
	alice.says(chat, "one")
	f.err.Store(&pim.Error{Kind: pim.KindDiskFull, Text: "no room", RetryAfter: 10 * time.Millisecond})
	sending, err := alice.Send(t.Context(), chat, []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, metrics := n.page("/metrics"); strings.Contains(metrics, `pim_sends_total{result="disk_full"}`) {
			break
		}
	}
	select {
	case <-sending.Done():
		t.Fatal("acknowledged although nothing can be stored")
	default:
	}
	f.err.Store(nil)
	alice.done(sending)
	bob.sees("one", "two")
}

func TestPages(t *testing.T) {
	n := start(t, config(t), server.Options{Version: "v9"})
	if code, body := n.page("/healthz"); code != 200 || !strings.Contains(body, "v9") {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, body := n.page("/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	n.connect("alice", "1", "http").says(pim.Direct("alice", "bob"), "x")
	var metrics string
	for !strings.Contains(metrics, `pim_sends_total{result="ok"} 1`) { // a sync may have told her before the answer was counted
		_, metrics = n.page("/metrics")
	}
	for _, name := range []string{
		"pim_connections", "pim_pushes_total", "pim_pulls_total", "pim_commit_seconds_bucket",
		"pim_store_fsync_seconds_bucket", "process_resident_memory_bytes", `pim_build_info{version="v9"} 1`,
	} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
}

// /readyz says one word to strangers; paths and causes are in the log, once.
func TestUnreadyIsSaid(t *testing.T) {
	st := &failing{Store: storetest.NewMemory()}
	s, log := serving(t, config(t), server.Options{Store: st})
	n := &node{Server: s, t: t}
	for _, c := range []struct {
		err  *pim.Error
		body string
	}{
		{pim.Errorf(pim.KindCorrupt, "/var/lib/pim/store/000017.sst: block 7 is not what was written"), "not ready: corrupt\n"},
		{pim.Errorf(pim.KindDiskFull, "write /var/lib/pim/store/000018.log: no space left"), "not ready: disk_full\n"},
		{pim.Errorf(pim.KindUnavailable, "fsync /dev/sda: input/output error"), "not ready: unavailable\n"},
	} {
		st.err.Store(c.err)
		for range 3 {
			if code, body := n.page("/readyz"); code != http.StatusServiceUnavailable || body != c.body {
				t.Errorf("/readyz: %d %q, want %q", code, body, c.body)
			}
		}
		if n := log.count(c.err.Text); n != 1 {
			t.Errorf("the log has %q %d times, want 1", c.err.Text, n)
		}
	}
	if _, body := n.page("/metrics"); !strings.Contains(body, "\npim_ready 0\n") {
		t.Error("/metrics does not say that the node is not ready")
	}
}

// A corrupt block stops the node. Clients are told to try again, so that no message is given up.
func TestCorruptStoreKeepsMessagesWaiting(t *testing.T) {
	st := &failing{Store: storetest.NewMemory()}
	n := start(t, config(t), server.Options{Store: st})
	alice, bob := n.connect("alice", "1", "http"), n.connect("bob", "1", "http")
	st.err.Store(pim.Errorf(pim.KindCorrupt, "block 7 is not what was written"))
	sending, err := alice.Send(t.Context(), pim.Direct("alice", "bob"), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, metrics := n.page("/metrics")
		if strings.Contains(metrics, `pim_sends_total{result="corrupt"}`) {
			t.Fatal("alice is told to give her message up")
		}
		if strings.Contains(metrics, `pim_sends_total{result="unavailable"}`) {
			break
		}
	}
	st.err.Store(nil) // restored from a backup
	alice.done(sending)
	bob.sees("one")
}

// A stop asks clients to leave and answers what is under way. A client that is still open comes
// back by itself and goes on.
func TestGracefulStop(t *testing.T) {
	c := config(t)
	c.DrainWindow = 100 * time.Millisecond
	free := net.JoinHostPort(loopback.Own(), "0") // nobody else gets it while the node is down
	c.Listen, c.ListenTCP = free, free
	n := start(t, c, server.Options{})
	c.Listen, c.ListenTCP = n.Addr(), n.TCPAddr() // the same ones again
	alice, bob := n.connect("alice", "1", "tcp"), n.connect("bob", "1", "http")
	chat := pim.Direct("alice", "bob")
	var want []string
	var sendings []*client.Sending
	for i := range 200 {
		text := fmt.Sprint("message ", i)
		s, err := alice.Send(t.Context(), chat, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want, sendings = append(want, text), append(sendings, s)
	}
	alice.done(sendings[50])
	n.stop()
	start(t, c, server.Options{})
	for _, s := range sendings {
		alice.done(s)
	}
	bob.sees(want...)
}

// stuck is a store whose commits end only when held is closed.
type stuck struct {
	store.Store
	begun, held chan struct{}
}

func (s *stuck) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *stuck) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if len(writes) > 0 && len(writes[0].Records) > 0 { // not what a sync writes
		select {
		case s.begun <- struct{}{}:
		default:
		}
	}
	<-s.held
	return store.Commit(ctx, s.Store, writes, d)
}

// startStuck starts a node whose disk is stuck in the commit of a message of alice.
func startStuck(t *testing.T) (n *node, alice *app, st *stuck) {
	st = &stuck{begun: make(chan struct{}, 1), held: make(chan struct{})}
	n = start(t, config(t), server.Options{WrapStore: func(s store.Store) store.Store { st.Store = s; return st }})
	alice = n.connect("alice", "1", "tcp")
	if _, err := alice.Send(t.Context(), pim.Direct("alice", "bob"), []byte("one")); err != nil {
		t.Fatal(err)
	}
	<-st.begun
	return n, alice, st
}

// With a disk that hangs Shutdown still returns, and says what does not end. If the disk comes
// back, the stop ends properly.
func TestStopWithAStuckDisk(t *testing.T) {
	n, _, st := startStuck(t)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		err := n.Shutdown(ctx)
		cancel()
		if pim.KindOf(err) != pim.KindUnavailable {
			t.Fatalf("the stop ended with %v", err)
		}
		if strings.Contains(err.Error(), "a commit has not ended") {
			break
		}
		// A part that ends before the commit has not ended yet: the machine is slow.
	}
	close(st.held)
	n.stop()
}

// nearEnd is a context whose deadline always seems to be 20 ms away.
type nearEnd struct{ context.Context }

func (nearEnd) Deadline() (time.Time, bool) { return time.Now().Add(20 * time.Millisecond), true }

// With a disk that hangs, clients are still told to go before the time for the stop is over.
func TestGoAwayWithAStuckDisk(t *testing.T) {
	n, alice, st := startStuck(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(nearEnd{ctx}) }()
	patience := time.After(5 * time.Minute)
	for told := false; !told; {
		select {
		case <-patience:
			t.Fatal("alice is not told to go")
		case err := <-done:
			t.Fatalf("the stop is over, %v", err)
		case ev := <-alice.Events():
			state, ok := ev.(client.StateEvent)
			told = ok && state.Err != nil && strings.Contains(state.Err.Error(), wire.CodeShutdown.String())
		}
	}
	close(st.held)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
