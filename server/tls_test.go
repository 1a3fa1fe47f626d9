package server_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
)

// over returns the header of a page that is asked for at the host.
func over(t *testing.T, url, host string) http.Header {
	t.Helper()
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := insecure.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header
}

// Browsers that have come with TLS are told to come with it from now on, if they came by a name.
func TestHSTS(t *testing.T) {
	const header = "Strict-Transport-Security"
	c, _ := withTLS(t, good(t, ""))
	s, _ := serving(t, c, server.Options{})
	for host, told := range map[string]bool{
		"chat.example": true, "chat.example:7400": true, "localhost.example": true, "10.example": true,
		"localhost": false, "LOCALHOST:7400": false, "chat.localhost": false, "localhost.": false,
		"127.0.0.1": false, "192.0.2.1:7400": false, "[::1]:7400": false, "[2001:db8::1]": false,
	} {
		for _, page := range []string{"/", "/healthz", "/nothing"} {
			want := ""
			if told {
				want = "max-age=15768000"
			}
			if got := over(t, "https://"+s.Addr()+page, host).Get(header); got != want {
				t.Errorf("%s of %s: %q, want %q", page, host, got, want)
			}
		}
	}
	for what, change := range map[string]func(*server.Config){
		"without TLS":  func(c *server.Config) { c.TLSCert, c.TLSKey = nil, nil },
		"switched off": func(c *server.Config) { c.HSTSMaxAge = 0 },
		"self-signed":  func(c *server.Config) { c.TLSCert, c.TLSKey, c.TLSSelfSigned = nil, nil, true },
	} {
		c := c
		c.Data = t.TempDir()
		change(&c)
		s, _ := serving(t, c, server.Options{})
		scheme := "http://"
		if c.Encrypts() {
			scheme = "https://"
		}
		if got := over(t, scheme+s.Addr()+"/healthz", "chat.example").Get(header); got != "" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// self returns the certificate that a server presents with tls-self-signed, and its pin. change
// changes its settings.
func self(t *testing.T, data string, at time.Time, change func(*server.Config)) (cert *tls.ConnectionState, pin string) {
	t.Helper()
	c := config(t)
	c.Data, c.TLSSelfSigned = data, true
	change(&c)
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler), Clock: clock.Source{Now: func() time.Time { return at }}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", s.TCPAddr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return &state, s.Pin()
}

// The server's own certificate is for this machine and for what it listens on and advertises. It stays
// over restarts, and so does its key when the certificate must be another one.
func TestSelfSigned(t *testing.T) {
	data, now := t.TempDir(), time.Now()
	same := func(*server.Config) {}
	state, pin := self(t, data, now, same)
	first := state.PeerCertificates[0]
	if !slices.Equal(first.DNSNames, []string{"localhost"}) || len(first.IPAddresses) != 2 || first.VerifyHostname("127.0.0.1") != nil || first.VerifyHostname("::1") != nil {
		t.Errorf("it is for %v and %v", first.DNSNames, first.IPAddresses)
	}
	info, err := os.Stat(filepath.Join(data, "tls-self-signed.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	state, again := self(t, data, now.Add(time.Hour), same)
	if !state.PeerCertificates[0].Equal(first) || again != pin {
		t.Error("the next start has another certificate")
	}
	state, again = self(t, data, now, func(c *server.Config) {
		c.Advertise, c.Listen = "https://im-1.example:7400, tls://tcp-1.example:7401", "127.0.0.2:0"
	})
	if cert := state.PeerCertificates[0]; cert.VerifyHostname("im-1.example") != nil || cert.VerifyHostname("tcp-1.example") != nil || cert.VerifyHostname("127.0.0.2") != nil || cert.VerifyHostname("localhost") != nil || again != pin {
		t.Errorf("it is for %v and %v, the pin is %s, before %s", cert.DNSNames, cert.IPAddresses, again, pin)
	}
	late := now.Add(300 * 24 * time.Hour)
	state, again = self(t, data, late, same)
	if until := state.PeerCertificates[0].NotAfter; until.Before(late.Add(300*24*time.Hour)) || again != pin {
		t.Errorf("after 300 days it is good until %v, the pin is %s, before %s", until, again, pin)
	}
}

// A file that is not what the server wrote is not overwritten: clients have the pin of its key.
func TestSelfSignedFileThatIsBroken(t *testing.T) {
	c := config(t)
	c.TLSSelfSigned = true
	path := filepath.Join(c.Data, "tls-self-signed.pem")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c, server.Options{})
	if err == nil {
		s.Shutdown(t.Context())
	}
	if pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("%v, want invalid", err)
	}
	if data, err := os.ReadFile(path); string(data) != "x" {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

// Clients that have the pin of the key trust it alone, over both transports.
func TestPinnedClients(t *testing.T) {
	c := config(t)
	c.TLSSelfSigned = true
	n := start(t, c, server.Options{})
	connect := func(scheme, device, pin string) *app {
		t.Helper()
		cl, err := client.Open(t.Context(), client.Options{
			Server: n.url(scheme), User: "alice", Device: pim.DeviceID(device), TLSPin: pin,
			Token:      func(context.Context) (string, error) { return n.keys.Issue("alice", time.Hour, n.wall()) },
			BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cl.Close() })
		return &app{Client: cl, t: t, user: "alice"}
	}
	web, raw := connect("wss", "1", n.Pin()), connect("tls", "2", n.Pin())
	web.says(pim.Direct("alice", "bob"), "to the one key")
	raw.sees("to the one key")
	for _, scheme := range []string{"https", "tls"} {
		for what, c := range map[string]struct {
			pin    string
			reason client.TLSReason
		}{
			"another pin": {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", client.TLSWrongPin},
			"no pin":      {"", client.TLSUnknownAuthority},
		} {
			if got := reasonOf(connect(scheme, "3", c.pin)); got != c.reason {
				t.Errorf("%s, %s: %q, want %q", scheme, what, got, c.reason)
			}
		}
	}
}

// reasonOf waits until an app fails to connect, and returns why; "" if TLS is not why, or it connects.
func reasonOf(a *app) client.TLSReason {
	late := time.After(hang)
	for {
		select {
		case ev := <-a.Events():
			s, ok := ev.(client.StateEvent)
			switch {
			case !ok || s.State == client.Connecting:
			case s.State == client.Connected:
				return ""
			default:
				return client.TLSReasonOf(s.Err)
			}
		case <-late:
			return ""
		}
	}
}
