package server_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// gateways is what /v1/gateways answers.
type gateways struct {
	Gateways []struct {
		Address, Site string
		Transports    []string
		Weight        int
	}
	Lease    string
	LeaseMS  int `json:"lease_ms"`
	WindowMS int `json:"window_ms"`
	AloneMS  int `json:"alone_window_ms"`
}

// ask asks the LBS at address.
func ask(t *testing.T, address, query string) gateways {
	t.Helper()
	r, err := http.Get(address + "/v1/gateways" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	var g gateways
	if err := json.Unmarshal(body, &g); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%d %q: %v", r.StatusCode, body, err)
	}
	if h := r.Header; h.Get("Cache-Control") != "private, max-age=1" || h.Get("Access-Control-Allow-Origin") != "*" || len(body) > 2<<10 {
		t.Errorf("%d bytes, headers %v", len(body), h)
	}
	return g
}

// A node alone is its own LBS. It names itself by where the client has found it, also behind a path.
func TestANodeIsItsOwnLBS(t *testing.T) {
	n := start(t, config(t), server.Options{})
	g := ask(t, n.url("http"), "?site=anywhere&transports=websocket,later")
	if len(g.Gateways) != 1 || g.Gateways[0].Address != "../" || g.Gateways[0].Site != "default" || g.Gateways[0].Weight < 1000 ||
		strings.Join(g.Gateways[0].Transports, ",") != "websocket" || g.Lease == "" || g.LeaseMS != 30_000 || g.WindowMS != 0 || g.AloneMS != 1000 {
		t.Errorf("%+v", g)
	}
	at, _ := url.Parse("https://chat.example/pim/v1/gateways")
	if to, err := at.Parse(g.Gateways[0].Address); err != nil || to.String() != "https://chat.example/pim/" {
		t.Errorf("behind a path it is %v, %v", to, err)
	}
	behind := httptest.NewServer(http.StripPrefix("/pim", n.proxy()))
	defer behind.Close()
	if g := ask(t, behind.URL+"/pim", ""); len(g.Gateways) != 1 {
		t.Errorf("behind a path: %+v", g)
	}
	for _, query := range []string{"?site=NO", "?transports=pigeon"} {
		if status, _ := n.page("/v1/gateways" + query); status != http.StatusBadRequest {
			t.Errorf("%s is answered with %d", query, status)
		}
	}
	if _, page := n.page("/metrics"); !strings.Contains(page, `pim_lbs_answers_total{outcome="assigned"} 2`) {
		t.Error("the metrics do not count the answers")
	}
}

// Every LBS knows what all nodes say of themselves, and sends clients to their own site.
func TestAnLBSKnowsTheGatewaysOfOtherNodes(t *testing.T) {
	network := bustest.NewNetwork()
	c := config(t)
	c.AcceptRate, c.MaxConnections = 77, 50
	start(t, c, server.Options{Bus: network.Join(bus.Node{Name: "a", Site: "west", Address: "https://a.example"})})
	one := config(t)
	one.Roles = "lbs"
	at := network.Join(bus.Node{Name: "b", Site: "east", Roles: bus.RoleLBS})
	n := start(t, one, server.Options{Bus: at})
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		a := at.View().Node("a")
		g := ask(t, n.url("http"), "?site=west")
		if a != nil && a.Load.AcceptRate == 77 && a.Load.MaxConnections == 50 && a.Load.Bytes.QUIC == 10*a.Load.Bytes.TCP &&
			len(g.Gateways) == 1 && g.Gateways[0].Address == "https://a.example" && g.Gateways[0].Site == "west" && g.Gateways[0].Weight <= 25 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("node b knows %+v, and answers %+v", a, g)
		}
	}
}

// Where the configuration asks for leases, a client needs one of this system for this node.
func TestLeasesAreRequired(t *testing.T) {
	c := config(t)
	c.RequireLease = true
	n := start(t, c, server.Options{})
	foreign, err := lbs.NewLeases("of another system")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.Issue(lbs.Lease{Gateways: []string{c.NodeName()}, Expires: time.Now().Add(time.Minute)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", forged} {
		e, ok := n.greet(bad).(*wirepb.PIMError)
		if !ok || pim.Kind(e.Kind) != pim.KindForbidden || e.RetryAfterMs == 0 {
			t.Errorf("with the lease %q Hello is answered by %v", bad, e)
		}
	}
	if m, ok := n.greet(ask(t, n.url("http"), "").Lease).(*wirepb.Welcome); !ok {
		t.Errorf("with a lease Hello is answered by %v", m)
	}
	_, page := n.page("/metrics")
	for _, reason := range []string{"missing", "forged"} {
		if !strings.Contains(page, `pim_lease_refusals_total{reason="`+reason+`"} 1`) {
			t.Errorf("the metrics do not have the reason %s", reason)
		}
	}
}

// greet says Hello with a lease over TCP, and returns the answer.
func (n *node) greet(lease string) wire.Message {
	n.t.Helper()
	token, err := n.keys.Issue("alice", time.Hour, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	nc, err := net.Dial("tcp", n.TCPAddr())
	if err != nil {
		n.t.Fatal(err)
	}
	c := transport.NewTCP(nc)
	defer c.Close()
	hello := wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone", Lease: lease})
	if err := c.Write([][]byte{hello}); err != nil {
		n.t.Fatal(err)
	}
	answer, err := c.Read()
	if err != nil {
		n.t.Fatal(err)
	}
	_, m, err := wire.Decode(answer)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// proxy returns a handler that passes requests on to the node.
func (n *node) proxy() http.Handler {
	to, err := url.Parse(n.url("http"))
	if err != nil {
		n.t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(to)
}

// BenchmarkGatewaysPage is what one answer of an LBS costs, without HTTP's reading and writing.
func BenchmarkGatewaysPage(b *testing.B) {
	c := server.Defaults()
	c.Data, c.Listen, c.ListenTCP, c.AcceptRate, c.MaxConnections = b.TempDir(), "127.0.0.1:0", "", 1_000_000, 10_000_000
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	pages := s.Pages()
	r := httptest.NewRequest("GET", "/v1/gateways?site=west&transports=websocket", nil)
	b.ReportAllocs()
	for b.Loop() {
		pages.ServeHTTP(httptest.NewRecorder(), r)
	}
}
