package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
)

// The others give a node nothing until it has heard of them.
func TestNodeDrainsUntilItServes(t *testing.T) {
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	seen := make(chan bool, 100)
	changed := func(v *bus.View) {
		if n := v.Node("a"); n != nil {
			seen <- n.Draining
		}
	}
	if err := other.Start(t.Context(), &bus.Handler{Changed: []func(*bus.View){changed}}); err != nil {
		t.Fatal(err)
	}
	start(t, config(t), server.Options{Bus: network.Join(bus.Node{Name: "a"}), Settle: 200 * time.Millisecond})
	for i, want := range []bool{true, false} {
		select {
		case draining := <-seen:
			if draining != want {
				t.Fatalf("view %d: the node drains: %v", i+1, draining)
			}
		case <-time.After(5 * time.Minute):
			t.Fatal("the node is not seen")
		}
	}
}

// A node that does not know the others yet answers, and takes nobody: its pages say that it is starting, connections are refused
// at once with a time, and no LBS names it. Then a client of an address alone knows where it is, and its Hello waits nowhere.
func TestNodeRefusesUntilItServes(t *testing.T) {
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	if err := other.Start(t.Context(), new(bus.Handler)); err != nil {
		t.Fatal(err)
	}
	c := config(t)
	listeners, err := server.Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c, server.Options{
		Logger: slog.New(slog.DiscardHandler), Listeners: listeners,
		Bus: network.Join(bus.Node{Name: "a"}), Settle: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, t: t, config: c}
	t.Cleanup(n.stop)
	ctx, giveUp := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- s.Start(ctx) }()

	page := func(path string, header http.Header) (status int, text string, head http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url("http")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	if status, text, _ := page("/healthz", nil); status != http.StatusOK {
		t.Errorf("/healthz: %d %s", status, text)
	}
	if status, text, _ := page("/readyz", nil); status != http.StatusServiceUnavailable || text != "not ready: starting\n" {
		t.Errorf("/readyz: %d %q", status, text)
	}
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}
	if status, text, head := page(wire.WebSocketPath, upgrade); status != http.StatusServiceUnavailable || text != "the server is starting (unavailable)\n" || head.Get("Retry-After") == "" {
		t.Errorf("an upgrade: %d %q, Retry-After %q", status, text, head.Get("Retry-After"))
	}
	if status, text, head := page("/v1/gateways", nil); status != http.StatusServiceUnavailable || !strings.Contains(text, "starting") || head.Get("Retry-After") != "2" {
		t.Errorf("the page of an LBS: %d %q, Retry-After %q", status, text, head.Get("Retry-After"))
	}
	tcp, err := net.Dial("tcp", n.TCPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_ = tcp.SetReadDeadline(time.Now().Add(5 * time.Minute))
	if _, err := tcp.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a TCP connection: %v, want EOF", err)
	}
	for other.View().Node("a") == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if a := other.View().Node("a"); !a.Draining || !a.Load.Unready {
		t.Errorf("others see %+v", a)
	}
	giveUp()
	if err := <-started; err == nil {
		t.Error("Start returned without an error")
	}
}

// A node says its farewell some time after it has told the others that it drains.
func TestNodeLingers(t *testing.T) {
	const settle = 2 * time.Second
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	var mu sync.Mutex
	var draining, farewell time.Time
	serves := make(chan struct{})
	served := sync.OnceFunc(func() { close(serves) })
	err := other.Start(t.Context(), &bus.Handler{
		Changed: []func(*bus.View){func(v *bus.View) {
			switch n := v.Node("a"); {
			case n != nil && n.Draining:
				mu.Lock()
				draining = time.Now()
				mu.Unlock()
			case n != nil:
				mu.Lock()
				draining = time.Time{}
				mu.Unlock()
				served()
			}
		}},
		Receive: map[bus.Kind]func(string, []byte){bus.KindAnnounce: func(string, []byte) { // the farewell is the last one
			mu.Lock()
			farewell = time.Now()
			mu.Unlock()
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, config(t), server.Options{Bus: network.Join(bus.Node{Name: "a"}), Settle: settle})
	<-serves
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if draining.IsZero() || farewell.Sub(draining) < settle/8 { // the word takes 100 ms, and on a slow machine longer
		t.Errorf("the node said that it drains at %v, and farewell at %v", draining, farewell)
	}
}
