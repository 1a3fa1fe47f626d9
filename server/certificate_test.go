package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

// named returns a certificate for names, whose subject is the first.
func named(t *testing.T, names ...string) pair {
	t.Helper()
	return newPair(t, names[0], time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour), names...)
}

// several returns the settings of a server with certificates, and a function that writes another
// one in place of the i-th.
func several(t *testing.T, pairs ...pair) (c server.Config, write func(i int, p pair)) {
	t.Helper()
	c = config(t)
	dir := t.TempDir()
	write = func(i int, p pair) {
		t.Helper()
		for path, data := range map[string][]byte{c.TLSCert[i]: p.cert, c.TLSKey[i]: p.key} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, p := range pairs {
		name := filepath.Join(dir, string(rune('a'+i)))
		c.TLSCert, c.TLSKey = append(c.TLSCert, name+".crt"), append(c.TLSKey, name+".key")
		write(i, p)
	}
	return c, write
}

// presentedFor is presented for a client that asks for name; "" asks for none.
func presentedFor(t *testing.T, addr, name string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// A client gets the certificate for just its name, else that with a wildcard, else the first.
func TestCertificateForAName(t *testing.T) {
	c, _ := several(t, named(t, "first.example"), named(t, "*.chat.example", "chat.example"), named(t, "IM.chat.example", "other.example"))
	s, _ := serving(t, c, server.Options{})
	for name, want := range map[string]string{
		"":                   "first.example",
		"first.example":      "first.example",
		"unknown.example":    "first.example",
		"chat.example":       "*.chat.example",
		"a.chat.example":     "*.chat.example",
		"A.Chat.EXAMPLE":     "*.chat.example",
		"b.a.chat.example":   "first.example", // a wildcard stands for one label
		"im.chat.example":    "IM.chat.example",
		"other.example":      "IM.chat.example",
		"example":            "first.example",
		"x.im.chat.example":  "first.example",
		"imx.chat.example":   "*.chat.example",
		"sub.first.example":  "first.example",
		"127.0.0.1":          "first.example", // clients send no addresses
		"xn--bcher-kva.test": "first.example",
	} {
		for _, addr := range []string{s.Addr(), s.TCPAddr()} {
			if got := presentedFor(t, addr, name); got != want {
				t.Errorf("%s presents %q for %q, want %q", addr, got, name, want)
			}
		}
	}
}

func TestTwoCertificatesForAName(t *testing.T) {
	c, _ := several(t, named(t, "a.example", "shared.example"), named(t, "b.example", "SHARED.example"))
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Shutdown(t.Context())
	}
	if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "shared.example") || !strings.Contains(err.Error(), c.TLSCert[0]) || !strings.Contains(err.Error(), c.TLSCert[1]) {
		t.Errorf("%v, want invalid, the name and both files", err)
	}
}

// Of several certificates each is read again by itself: what is wrong with one does not keep another
// from being taken, and none takes a name that another has.
func TestSeveralCertificatesAreReadAgain(t *testing.T) {
	far, near := time.Now().Add(300*24*time.Hour), time.Now().Add(100*24*time.Hour)
	a := newPair(t, "a1", time.Now().Add(-time.Hour), far, "a.example")
	b := newPair(t, "b1", time.Now().Add(-time.Hour), near, "b.example")
	c, write := several(t, a, b)
	s, log := serving(t, c, server.Options{})
	serves := func(wantA, wantB string) {
		t.Helper()
		if a, b := presentedFor(t, s.Addr(), "a.example"), presentedFor(t, s.TCPAddr(), "b.example"); a != wantA || b != wantB {
			t.Errorf("presents %q and %q, want %q and %q", a, b, wantA, wantB)
		}
	}
	fails := func(want string) {
		t.Helper()
		if err := s.Reload(t.Context()); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("Reload: %v, want invalid with %q", err, want)
		}
	}
	serves("a1", "b1")
	if v := metric(t, s, "pim_tls_certificate_expiry_timestamp_seconds"); v != seconds(near) {
		t.Errorf("the first expires at %s, want %s", v, seconds(near))
	}

	// One is half written, the other is good.
	write(0, newPair(t, "a2", time.Now().Add(-time.Hour), near.Add(-time.Hour), "a.example"))
	write(1, pair{named(t, "b.example").cert, b.key})
	fails(c.TLSCert[1])
	serves("a2", "b1")
	if log.count("names=\"a.example 127.0.0.1\"") == 0 {
		t.Error("the log does not say which certificate is in use from now on")
	}
	if v := metric(t, s, "pim_tls_certificate_expiry_timestamp_seconds"); v != seconds(near.Add(-time.Hour)) {
		t.Errorf("the first expires at %s, want %s", v, seconds(near.Add(-time.Hour)))
	}

	// The second asks for a name that the first has.
	write(1, named(t, "b.example", "a.example"))
	fails("a.example")
	serves("a2", "b1")

	// The first takes a name from the second, which still has it.
	write(1, b)
	write(0, named(t, "a.example", "b.example"))
	fails("b.example")
	serves("a2", "b1")

	// Both are new, and one wrong.
	write(0, named(t, "a.example", "b.example"))
	write(1, named(t, "b.example"))
	fails("b.example")
	serves("a2", "b.example")

	// Names change hands in one go.
	write(0, named(t, "b.example"))
	write(1, named(t, "a.example"))
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	serves("a.example", "b.example")
}

// What Kubernetes mounts is a link to a link to a directory, and one rename of the link in the middle
// changes all files. What certbot renews are links of their own.
func TestCertificateBehindLinks(t *testing.T) {
	mount := t.TempDir()
	into := func(version string, p pair) {
		t.Helper()
		dir := filepath.Join(mount, version)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"tls.crt": p.cert, "tls.key": p.key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(version, filepath.Join(mount, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "new"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	into("..1", good(t, "first"))
	c := config(t)
	for name, to := range map[string]*[]string{"tls.crt": &c.TLSCert, "tls.key": &c.TLSKey} {
		path := filepath.Join(mount, name)
		if err := os.Symlink(filepath.Join("..data", name), path); err != nil {
			t.Fatal(err)
		}
		*to = []string{path}
	}
	s, _ := serving(t, c, server.Options{})
	into("..2", good(t, "second"))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := presented(t, s.Addr()); got != "second" {
		t.Errorf("presents %q", got)
	}
	into("..3", good(t, "third"))
	eventually(t, "the server finds it by itself", func() bool { return presented(t, s.Addr()) == "third" })
}

// A client that is connected goes on with the certificate that it has seen, and new ones see the new
// one.
func TestRenewalKeepsClients(t *testing.T) {
	first, second := good(t, "first"), good(t, "second")
	c, write := withTLS(t, first)
	n := start(t, c, server.Options{})
	n.roots = x509.NewCertPool()
	n.roots.AppendCertsFromPEM(first.cert)
	web, raw := n.connect("alice", "1", "https"), n.connect("bob", "1", "tls")
	web.says(pim.Direct("alice", "bob"), "before") // so both are connected
	raw.sees("before")
	write(second)
	if err := n.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	web.says(pim.Direct("alice", "bob"), "after the renewal")
	raw.sees("after the renewal")
	n.roots = x509.NewCertPool()
	n.roots.AppendCertsFromPEM(second.cert)
	late := n.connect("bob", "2", "https")
	late.sees("before", "after the renewal")
	web.says(pim.Direct("alice", "bob"), "to both")
	raw.sees("to both")
	late.sees("to both")
}
