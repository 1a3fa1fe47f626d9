package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// startSecured starts a server with TLS, whose settings change has changed.
func startSecured(t *testing.T, change func(*server.Config), o server.Options) *node {
	t.Helper()
	c := config(t)
	var roots *x509.CertPool
	c.TLSCert, c.TLSKey, roots = selfSigned(t, c.Data)
	if change != nil {
		change(&c)
	}
	n := start(t, c, o)
	n.roots = roots
	return n
}

// securePage returns a page of a server with TLS. It asks again if it is turned away, up to 5 min.
func (n *node) securePage(path string) string {
	n.t.Helper()
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: n.roots}}}
	resp, err := hc.Get("https://" + n.Addr() + path)
	for begun := time.Now(); err != nil && time.Since(begun) < 5*time.Minute; resp, err = hc.Get("https://" + n.Addr() + path) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(body)
}

// With TLS a server takes QUIC on the UDP port of the number that HTTPS has, without being told to, and clients
// of all transports write to each other.
func TestQUIC(t *testing.T) {
	n := startSecured(t, nil, server.Options{})
	_, web, _ := net.SplitHostPort(n.Addr())
	if _, port, _ := net.SplitHostPort(n.QUICAddr()); port != web {
		t.Fatalf("QUIC at %q, HTTPS at %q", n.QUICAddr(), n.Addr())
	}
	alice, bob, laptop := n.connect("alice", "1", "quic"), n.connect("bob", "1", "https"), n.connect("bob", "2", "quic")
	conversation := pim.Direct("alice", "bob")
	alice.says(conversation, "one")
	bob.says(conversation, strings.Repeat("x", pim.MaxPayload))
	laptop.says(conversation, "three")
	for _, a := range []*app{alice, bob, laptop} {
		a.sees("one", strings.Repeat("x", pim.MaxPayload), "three")
	}
	page := n.securePage("/metrics")
	for _, want := range []string{`pim_transport_connections{transport="quic"} 2`, `pim_transport_connections{transport="websocket"} 1`, "\npim_connections 3\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q among the metrics", want)
		}
	}
}

// A server whose UDP port is taken serves the other transports, and says so in its log. One that is told to, or has no
// TLS, has no QUIC.
func TestNoQUIC(t *testing.T) {
	secured, _ := withTLS(t, good(t, ""))
	for what, x := range map[string]struct {
		change func(*server.Config)
		logged string
	}{
		"taken":        {func(c *server.Config) {}, "no QUIC: the UDP port of listen cannot be had"},
		"switched off": {func(c *server.Config) { c.QUIC = false }, ""},
		"without TLS":  {func(c *server.Config) { c.TLSCert, c.TLSKey = nil, nil }, ""},
	} {
		c := secured
		c.Data = t.TempDir()
		x.change(&c)
		var log bytes.Buffer
		o := server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		for what == "taken" && o.Listeners == nil { // until a number is found that is free for TCP
			udp, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			c.Listen = udp.LocalAddr().String()
			o.Listeners, _ = server.Listen(t.Context(), c)
		}
		n := startLogging(t, c, o)
		if n.QUICAddr() != "" {
			t.Errorf("%s: QUIC at %s", what, n.QUICAddr())
		}
		n.stop()
		if got := strings.Contains(log.String(), "no QUIC"); got != (x.logged != "") || !strings.Contains(log.String(), x.logged) {
			t.Errorf("%s: the log says %s", what, &log)
		}
	}
}

// dialQUIC opens a connection and says Hello.
func (n *node) dialQUIC(user, device string) (transport.Conn, error) {
	d, err := transport.NewDialer(n.url("quic"), &tls.Config{RootCAs: n.roots}, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := d.Dial(ctx)
	if err != nil {
		return nil, err
	}
	token, err := n.keys.Issue(pim.UserID(user), time.Hour, n.wall())
	if err == nil {
		err = c.Write([][]byte{wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: device})})
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// nextFrame reads the next frame.
func nextFrame(c transport.Conn) (wire.Message, error) {
	frame, err := c.Read()
	if err != nil {
		return nil, err
	}
	_, m, err := wire.Decode(frame)
	return m, err
}

// The last frame reaches a QUIC client, whatever ends its connection, and then the stream ends.
func TestLastWordsOverQUIC(t *testing.T) {
	n := startSecured(t, nil, server.Options{})
	for what, x := range map[string]struct {
		end  func(transport.Conn) error
		code wire.Code
	}{
		"a second Hello": {func(c transport.Conn) error {
			return c.Write([][]byte{wire.Append(nil, &wirepb.Hello{Version: wire.Version})})
		}, wire.CodeProtocol},
		"another connection": {func(transport.Conn) error {
			second, err := n.dialQUIC("alice", "phone")
			if err == nil {
				t.Cleanup(func() { second.Close() })
			}
			return err
		}, wire.CodeReplaced},
	} {
		c, err := n.dialQUIC("alice", "phone")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if m, err := nextFrame(c); err != nil {
			t.Fatalf("%s: %v, %v", what, m, err)
		}
		if err := x.end(c); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		m, err := nextFrame(c)
		if away, ok := m.(*wirepb.PIMGoAway); !ok || wire.Code(away.Code) != x.code {
			t.Errorf("%s: %v, %v", what, m, err)
		}
		if m, err := nextFrame(c); err == nil {
			t.Errorf("%s: %v after the last frame", what, m)
		}
	}
}

// A connection that is refused costs no handshake: a full node, and an address that comes too fast.
func TestQUICIsRefused(t *testing.T) {
	for what, change := range map[string]func(*server.Config){
		"connections": func(c *server.Config) { c.MaxConnections = 2 },
		"accept_rate": func(c *server.Config) { c.AcceptRate = 1 },
	} {
		n := startSecured(t, change, server.Options{})
		var refused error
		for i := 0; refused == nil; i++ {
			if i > 10 {
				t.Fatalf("%s: %d connections", what, i)
			}
			c, err := n.dialQUIC("alice", fmt.Sprint(i))
			if err == nil {
				defer c.Close()
				_, err = nextFrame(c)
			}
			refused = err
		}
		if !strings.Contains(refused.Error(), "CONNECTION_REFUSED") {
			t.Errorf("%s: %v", what, refused)
		}
		if page := n.securePage("/metrics"); !strings.Contains(page, fmt.Sprintf("pim_refusals_total{reason=%q} ", what)) {
			t.Errorf("%s is not among the refusals:\n%s", what, page[strings.Index(page, "pim_refusals"):][:400])
		}
	}
}

// namesQUIC is an LBS that names n, with a QUIC address.
func (n *node) namesQUIC(quic string) string {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"candidates": []any{map[string]any{"node": "n", "weight": 1, "addresses": map[string]string{"websocket": n.url("https"), "quic": quic}}},
			"keep_ms":    10_000,
		})
	}))
	n.t.Cleanup(h.Close)
	return h.URL
}

// A client that an LBS tells of a QUIC address tries it first. Where UDP is swallowed it comes by WebSocket, and does not
// try QUIC again on that network.
func TestQUICBesideWebSocket(t *testing.T) {
	n := startSecured(t, nil, server.Options{})
	hole, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	for i, x := range []struct{ quic, transport string }{
		{n.url("quic"), "quic"},
		{"quic://" + hole.LocalAddr().String(), "websocket"},
	} {
		user := pim.UserID(fmt.Sprint("user-", i))
		c, err := client.Open(t.Context(), client.Options{
			Server: n.namesQUIC(x.quic), User: user, Device: "phone", TLS: &tls.Config{RootCAs: n.roots},
			Token:      func(context.Context) (string, error) { return n.keys.Issue(user, time.Hour, n.wall()) },
			BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		connected := func(after func()) {
			t.Helper()
			for ev := range c.Events() {
				if e, ok := ev.(client.StateEvent); ok && e.State == client.Connected {
					after()
					return
				}
			}
		}
		connected(func() {
			if page, want := n.securePage("/metrics"), fmt.Sprintf("pim_transport_connections{transport=%q} 1", x.transport); !strings.Contains(page, want) {
				t.Errorf("%s: not connected over %s", x.quic, x.transport)
			}
		})
		if x.transport == "websocket" {
			buf := make([]byte, 2000)
			_, first, err := hole.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Reconnect(); err != nil {
				t.Fatal(err)
			}
			connected(func() {})
			hole.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			for {
				_, from, err := hole.ReadFrom(buf)
				if err != nil {
					break
				}
				if from.String() != first.String() {
					t.Fatal("QUIC is dialled again after it has lost")
				}
			}
		}
		c.Close()
	}
}
