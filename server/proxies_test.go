package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"github.com/pires/go-proxyproto"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// startBehind starts a server that trusts the proxies, and returns its log.
func startBehind(t *testing.T, proxies string, secure bool) (*node, *lines, *tls.Config) {
	t.Helper()
	c := config(t)
	c.TrustedProxies = proxies
	var client *tls.Config
	if secure {
		var roots *x509.CertPool
		c.TLSCert, c.TLSKey, roots = selfSigned(t, c.Data)
		client = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	}
	log := new(lines)
	n := startLogging(t, c, server.Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	return n, log, client
}

// proxied connects to addr as a proxy would: header first, then TLS if there is any.
func proxied(t *testing.T, addr string, header []byte, config *tls.Config) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	nc.Write(header)
	if config != nil {
		return tls.Client(nc, config)
	}
	return nc
}

// greets says Hello and reports whether Welcome is the answer.
func (n *node) greets(nc net.Conn, websocket bool, headers string) bool {
	n.t.Helper()
	token, err := n.keys.Issue("alice", time.Hour, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	hello := wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone"})
	if !websocket {
		c := transport.NewTCP(nc)
		if c.Write([][]byte{hello}) != nil {
			return false
		}
		frame, err := c.Read()
		return err == nil && wire.Type(frame[0]) == wire.TypeWelcome
	}
	io.WriteString(nc, "GET "+wire.WebSocketPath+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+headers+"\r\n")
	in := bufio.NewReader(nc)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		return false
	}
	nc.Write(append([]byte{0x82, 0x80 | 126, byte(len(hello) >> 8), byte(len(hello)), 0, 0, 0, 0}, hello...))
	first, err := in.ReadByte()
	return err == nil && first == 0x82
}

// If a trusted proxy tells the client's address, in whatever way, the log has it: on both
// listeners, with TLS and without.
func TestAddressBehindAProxy(t *testing.T) {
	v := func(version byte) []byte {
		h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 4711}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7400})
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	for name, c := range map[string]struct {
		header    []byte
		websocket bool
		lines     string
		want      string
	}{
		"PROXY 1, TCP":              {header: v(1), want: "remote=203.0.113.7:4711"},
		"PROXY 2, TCP":              {header: v(2), want: "remote=203.0.113.7:4711"},
		"PROXY 2 of its own, TCP":   {header: local, want: "remote=127.0.0.1:"},
		"no PROXY header, TCP":      {want: "remote=127.0.0.1:"},
		"PROXY 1, WebSocket":        {header: v(1), websocket: true, want: "remote=203.0.113.7:4711"},
		"PROXY 2, WebSocket":        {header: v(2), websocket: true, want: "remote=203.0.113.7:4711"},
		"Forwarded":                 {websocket: true, lines: "Forwarded: for=1.1.1.1, for=\"203.0.113.8:1\"\r\n", want: "remote=203.0.113.8\n"},
		"X-Forwarded-For":           {websocket: true, lines: "X-Forwarded-For: 1.1.1.1, 203.0.113.8\r\n", want: "remote=203.0.113.8\n"},
		"PROXY, and a client's own": {header: v(2), websocket: true, lines: "X-Forwarded-For: 1.1.1.1\r\n", want: "remote=203.0.113.7:4711"},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", TLS"}[secure], func(t *testing.T) {
				n, log, config := startBehind(t, "10.0.0.0/8, 127.0.0.0/8", secure)
				addr := n.TCPAddr()
				if c.websocket {
					addr = n.Addr()
				}
				nc := proxied(t, addr, c.header, config)
				if !n.greets(nc, c.websocket, c.lines) {
					t.Fatal("no Welcome")
				}
				eventually(t, "the log has "+c.want, func() bool { return log.has(c.want) })
				nc.Close()
			})
		}
	}
}

// Nobody else is believed: the headers of a stranger change nothing, and a PROXY header of a
// stranger is refused, since it is neither HTTP nor a frame.
func TestStrangersAreNotProxies(t *testing.T) {
	for _, trusted := range []string{"", "10.0.0.0/8"} {
		n, log, _ := startBehind(t, trusted, false)
		if !n.greets(proxied(t, n.Addr(), nil, nil), true, "Forwarded: for=203.0.113.7\r\nX-Forwarded-For: 203.0.113.7\r\n") {
			t.Error("headers of a stranger's turn him away")
		}
		header := []byte("PROXY TCP4 203.0.113.7 10.0.0.1 4711 7400\r\n")
		if n.greets(proxied(t, n.TCPAddr(), header, nil), false, "") || n.greets(proxied(t, n.Addr(), header, nil), true, "") {
			t.Error("a stranger's PROXY header is taken")
		}
		eventually(t, "the log has the address of the stranger", func() bool { return log.has("remote=127.0.0.1:") })
		if log.has("203.0.113.7") {
			t.Errorf("the log says:\n%s", log.buf.String())
		}
	}
}

// A PROXY header that is malformed or incomplete ends the connection of a trusted proxy, and
// nothing else.
func TestBrokenProxyHeaders(t *testing.T) {
	n, _, _ := startBehind(t, "127.0.0.1", false)
	for _, header := range []string{"PROXY nonsense\r\n", "PROXY TCP4 1.1.1.1\r\n", "PROXY " + strings.Repeat("x", 200), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "\r\n\r\n\x00\r\nQUIT\n\x91\x11\x00\x0c"} {
		for _, addr := range []string{n.TCPAddr(), n.Addr()} {
			nc := proxied(t, addr, []byte(header), nil)
			nc.(*net.TCPConn).CloseWrite()
			if got, _ := io.ReadAll(nc); bytes.Contains(got, []byte("101 ")) {
				t.Errorf("%q is answered with %q", header, got)
			}
		}
	}
	if !n.greets(proxied(t, n.TCPAddr(), nil, nil), false, "") {
		t.Error("no Welcome after them")
	}
}
