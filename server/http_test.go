package server_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// closed waits until the server has closed conn.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(5 * time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s keeps a connection open", conn.RemoteAddr())
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A client that connects and does not finish what it began is closed soon, with TLS or without.
func TestSlowHandshakes(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		c := config(t)
		c.HandshakeTimeout = 200 * time.Millisecond
		if encrypted {
			c.TLSCert, c.TLSKey, _ = selfSigned(t, c.Data)
		}
		n := start(t, c, server.Options{})
		for _, addr := range []string{n.Addr(), n.TCPAddr()} {
			for _, begin := range []string{"", "\x16\x03\x01\x02\x00\x01\x00", "GET /v1/ws HTTP/1.1\r\nHo", "\x00\x00"} {
				conn := dial(t, addr)
				conn.Write([]byte(begin))
				closed(t, conn)
			}
		}
	}
}

// HTTP connections count among the connections that the node takes.
func TestHTTPConnectionsAreBounded(t *testing.T) {
	c := config(t)
	c.MaxConnections, c.HandshakeTimeout = 1, time.Minute
	n := start(t, c, server.Options{})
	const spare = 64
	for range c.MaxConnections + spare {
		conn := dial(t, n.Addr())
		conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, dial(t, n.Addr()))
}

// A WebSocket needs an HTTP/1 connection, so the server offers no other protocol.
func TestHTTP1Only(t *testing.T) {
	c := config(t)
	c.TLSCert, c.TLSKey, _ = selfSigned(t, c.Data)
	n := start(t, c, server.Options{})
	conn, err := tls.Dial("tcp", n.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("the server chose %q", p)
	}
}

func TestPprof(t *testing.T) {
	c := config(t)
	c.PprofListen = "127.0.0.1:0"
	n := start(t, c, server.Options{})
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := hc.Get("http://" + n.PprofAddr() + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "goroutine profile") {
		t.Errorf("%.100q, %v", body, err)
	}
	if code, _ := n.page("/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("the public address serves the profiler: %d", code)
	}
}

// When a stop begins, /readyz says so to load balancers while the node still works.
func TestStoppingIsSaid(t *testing.T) {
	st := &stuck{begun: make(chan struct{}, 1), held: make(chan struct{})}
	n := start(t, config(t), server.Options{WrapStore: func(s store.Store) store.Store { st.Store = s; return st }})
	alice := n.connect("alice", "1", "http")
	if _, err := alice.Send(t.Context(), pim.Direct("alice", "bob"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	<-st.begun
	stopped := make(chan error)
	go func() { stopped <- n.Shutdown(t.Context()) }()
	for {
		code, body := n.page("/readyz")
		if code == http.StatusOK {
			continue
		}
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
			t.Errorf("/readyz: %d %s", code, body)
		}
		break
	}
	close(st.held)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
