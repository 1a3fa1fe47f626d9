package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
)

// hang is how long a test waits before it gives up.
const hang = 5 * time.Minute

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// journal is a log that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), text)
}

// serving starts a server whose log can be read.
func serving(t *testing.T, c server.Config, o server.Options) (*server.Server, *journal) {
	t.Helper()
	j := new(journal)
	o.Logger = slog.New(slog.NewTextHandler(j, nil))
	s, err := server.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, j
}

// pair is a certificate and its key, as PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, name string, from, until time.Time, names ...string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, data []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
	}
	return pair{encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)}
}

// good returns a certificate that need not be renewed for long.
func good(t *testing.T, name string) pair {
	return newPair(t, name, time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
}

// withTLS returns the settings of a server with a certificate, and a function that writes
// another one in its place.
func withTLS(t *testing.T, first pair) (c server.Config, write func(pair)) {
	t.Helper()
	c = config(t)
	dir := t.TempDir()
	c.TLSCert, c.TLSKey = []string{filepath.Join(dir, "cert.pem")}, []string{filepath.Join(dir, "key.pem")}
	write = func(p pair) {
		t.Helper()
		for path, data := range map[string][]byte{c.TLSCert[0]: p.cert, c.TLSKey[0]: p.key} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(first)
	return c, write
}

// presented returns the name in the certificate that a new connection gets.
func presented(t *testing.T, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func metric(t *testing.T, s *server.Server, name string) string {
	t.Helper()
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := insecure.Get("https://" + s.Addr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return metricIn(t, resp.Body, name)
}

// metricIn returns the value of a metric on a page of metrics.
func metricIn(t *testing.T, body io.Reader, name string) string {
	t.Helper()
	page, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// seconds returns a time as metrics have it.
func seconds(at time.Time) string { return fmt.Sprint(float64(at.Unix())) }

func TestCertificateIsReadAgain(t *testing.T) {
	c, write := withTLS(t, good(t, "first"))
	s, log := serving(t, c, server.Options{})
	serves := func(name string) {
		t.Helper()
		for _, addr := range []string{s.Addr(), s.TCPAddr()} {
			if got := presented(t, addr); got != name {
				t.Errorf("%s presents %q, want %q", addr, got, name)
			}
		}
	}
	serves("first")
	before, err := tls.Dial("tcp", s.TCPAddr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()

	// Reload reads the new certificate at once.
	write(good(t, "second"))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	serves("second")
	if err := before.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Read(make([]byte, 1)); err == io.EOF {
		t.Error("an open connection was ended")
	}

	// Without Reload the server finds the new certificate by itself.
	write(good(t, "third"))
	eventually(t, "the third certificate is served", func() bool { return presented(t, s.Addr()) == "third" })

	// Files that are wrong leave the certificate in use as it was, and the server says so.
	third := good(t, "third")
	now := time.Now()
	for what, p := range map[string]pair{
		"no PEM":              {[]byte("x"), third.key},
		"another key":         {third.cert, good(t, "").key},
		"nothing":             {nil, nil},
		"one that expired":    newPair(t, "expired", now.Add(-2*time.Hour), now.Add(-time.Hour)),
		"one of tomorrow":     newPair(t, "early", now.Add(24*time.Hour), now.Add(48*time.Hour)),
		"a key in both files": {third.key, third.key},
	} {
		write(p)
		if err := s.Reload(t.Context()); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), c.TLSCert[0]) {
			t.Errorf("%s: %v, want invalid, and the file's name", what, err)
		}
		serves("third")
		if v := metric(t, s, `pim_reload_failing{what="certificate"}`); v != "1" {
			t.Errorf("%s: pim_reload_failing is %q", what, v)
		}
	}
	said := "what was read before stays in use"
	if log.count(said) == 0 {
		t.Error("the log says nothing of it")
	}
	// When the files become wrong again, the server says so once by itself.
	write(third)
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := func() string { return metric(t, s, `pim_reloads_total{what="certificate",result="failed"}`) }
	n := log.count(said)
	write(pair{[]byte("y"), third.key})
	eventually(t, "a wrong certificate is in the log", func() bool { return log.count(said) == n+1 })
	if failed() == "0" {
		t.Error("pim_reloads_total counts no failure")
	}
	write(good(t, "fourth"))
	eventually(t, "the fourth certificate is served", func() bool { return presented(t, s.Addr()) == "fourth" })
	eventually(t, "pim_reload_failing is 0 after a good one", func() bool { return metric(t, s, `pim_reload_failing{what="certificate"}`) == "0" })
}

// If clients refuse the certificate, or soon will, the log says so from the start on. A metric
// has when it expires.
func TestCertificateExpiry(t *testing.T) {
	now := time.Now()
	const day = 24 * time.Hour
	for _, c := range []struct {
		name        string
		from, until time.Time
		want        string // in the log; empty: nothing
	}{
		{"good", now.Add(-day), now.Add(89 * day), ""},
		{"good, of a week", now.Add(-day), now.Add(6 * day), ""},
		{"soon", now.Add(-80 * day), now.Add(10 * day), "the TLS certificate should have been renewed"},
		{"soon, of a week", now.Add(-5 * day), now.Add(2 * day), "the TLS certificate should have been renewed"},
		{"expired", now.Add(-2 * day), now.Add(-day), "it expired at"},
		{"of tomorrow", now.Add(day), now.Add(2 * day), "it is valid from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _ := withTLS(t, newPair(t, c.name, c.from, c.until))
			s, log := serving(t, cfg, server.Options{Clock: clock.Source{Now: func() time.Time { return now }}})
			if c.want == "" && log.count("TLS certificate") != 0 || c.want != "" && log.count(c.want) != 1 {
				t.Errorf("the log says %q, want %q", log.buf.String(), c.want)
			}
			if v := metric(t, s, "pim_tls_certificate_expiry_timestamp_seconds"); v != seconds(c.until) {
				t.Errorf("pim_tls_certificate_expiry_timestamp_seconds is %q, want %d", v, c.until.Unix())
			}
			if got := presented(t, s.Addr()); got != c.name {
				t.Errorf("it is not served: %q", got)
			}
		})
	}
}

func TestCertificateErrorsNameTheFiles(t *testing.T) {
	c, write := withTLS(t, good(t, ""))
	write(pair{good(t, "").cert, good(t, "").key})
	for _, change := range []func(*server.Config){
		func(*server.Config) {}, // the files are of two different keys
		func(c *server.Config) { c.TLSCert = []string{c.TLSCert[0] + ".none"} },
		func(c *server.Config) { c.TLSKey = []string{c.TLSKey[0] + ".none"} },
		func(c *server.Config) { c.TLSKey = c.TLSCert },
	} {
		c := c
		change(&c)
		s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Shutdown(t.Context())
			t.Error("it was taken")
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.TLSCert[0]) && !strings.Contains(text, c.TLSKey[0]) || pim.KindOf(err) == pim.KindUnavailable {
			t.Errorf("%v names no file, or tells to try again", err)
		}
	}
}

// A key that is added to the file lets in. A key that is taken out of it is withdrawn, and the
// connections that it let in are closed.
func TestKeysAreReadAgain(t *testing.T) {
	c := config(t)
	n := start(t, c, server.Options{})
	old := n.keys
	alice := n.connect("alice", "phone", "http")
	toBob := pim.Direct("alice", "bob")
	alice.says(toBob, "with the first key")

	otherPath := filepath.Join(t.TempDir(), "keys.json")
	next, err := account.CreateDevelopmentKey(otherPath)
	if err != nil {
		t.Fatal(err)
	}
	both := merged(t, c.KeysPath(), otherPath)
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(c.KeysPath(), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refusal := func(keys *account.Keys, user pim.UserID) error {
		t.Helper()
		token, err := keys.Issue(user, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		app, err := client.Open(t.Context(), client.Options{
			Server: n.url("http"), User: user, Device: "d", Token: func(context.Context) (string, error) { return token, nil },
			BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		for ev := range app.Events() {
			if s, ok := ev.(client.StateEvent); ok && s.State == client.Connected {
				return nil
			} else if ok && pim.KindOf(s.Err) == pim.KindUnauthorized {
				return s.Err
			}
		}
		return nil
	}
	if err := refusal(next, "carol"); err == nil {
		t.Error("a key that is in no file lets in")
	}
	write(both)
	eventually(t, "the second key lets in", func() bool { return refusal(next, "carol") == nil })
	alice.says(toBob, "still with the first key")

	// A broken file changes nothing.
	write([]byte(`{"keys":[`))
	if err := n.Reload(t.Context()); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a broken file: %v", err)
	}
	if err := refusal(old, "dave"); err != nil {
		t.Errorf("after a broken file: %v", err)
	}

	// The first key goes.
	second, err := os.ReadFile(otherPath)
	if err != nil {
		t.Fatal(err)
	}
	write(second)
	if err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := refusal(old, "dave"); err == nil {
		t.Error("a key that is gone lets in")
	}
	if !alice.closedFor("withdrawn") {
		t.Error("alice's connection was not closed")
	}
}

// closedFor reads events until one says that a connection ended with text.
func (a *app) closedFor(text string) bool {
	late := time.After(hang)
	for {
		select {
		case ev := <-a.Events():
			if s, ok := ev.(client.StateEvent); ok && s.Err != nil && strings.Contains(s.Err.Error(), text) {
				return true
			}
		case <-late:
			return false
		}
	}
}

// merged returns the content of a key file with the keys of several.
func merged(t *testing.T, paths ...string) []byte {
	t.Helper()
	var all struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		one := all
		one.Keys = nil
		if err := json.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		all.Keys = append(all.Keys, one.Keys...)
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
