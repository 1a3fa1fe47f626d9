package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/server"
)

// told is an answer of /v1/gateways, with the names of docs/protocol.md.
type told struct {
	Candidates []struct {
		Node, Site string
		Transports []string
		Addresses  map[string]string
		Weight     int
	}
	Lease, Reason, Ticket string
	ExpiresMS             int64 `json:"expires_ms"`
	WindowMS              int64 `json:"window_ms"`
	AloneMS               int64 `json:"alone_ms"`

	Error, Kind  string
	RetryAfterMS int64 `json:"retry_after_ms"`

	status int
	header http.Header
}

func (a *told) nodes() (names []string) {
	for _, c := range a.Candidates {
		names = append(names, c.Node)
	}
	return names
}

// question is a GET of /v1/gateways, with changes.
func (n *node) question(query string, change ...func(*http.Request)) told {
	n.t.Helper()
	request, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.url("http")+"/v1/gateways"+query, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range change {
		c(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := told{status: response.StatusCode, header: response.Header}
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &a)
	}
	if err != nil {
		n.t.Fatalf("%s: %v", body, err)
	}
	return a
}

// by has a request show a user's token.
func (n *node) by(user string) func(*http.Request) {
	n.t.Helper()
	token, err := n.keys.Issue(pim.UserID(user), time.Hour, n.wall())
	if err != nil {
		n.t.Fatal(err)
	}
	return shows("Authorization", "Bearer "+token)
}

func shows(header, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(header, value) }
}

// knows waits until an LBS knows that many gateways in a state.
func (n *node) knows(gateways int, state string) {
	n.t.Helper()
	for end := deadline(); n.metric(fmt.Sprintf("pim_lbs_gateways{state=%q}", state)) != gateways; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%d gateways are not %s", gateways, state)
		}
	}
}

func TestOneNodeNamesItself(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	for advertised, addresses := range map[string]map[string]string{
		"": {},
		"https://im.example.org/pim,tls://im.example.org:7401": {"websocket": "https://im.example.org/pim", "tcp": "tls://im.example.org:7401"},
	} {
		c := config(t)
		c.Node, c.Site, c.Advertise, c.LBSSecretFile = "one", "west", advertised, filepath.Join(c.Data, "secret")
		if err := os.WriteFile(c.LBSSecretFile, append(secret, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		n := start(t, c, server.Options{})
		before := time.Now()
		a := n.question("?site=west&new=1", n.by("alice"))
		after := time.Now()
		if a.status != 200 || !reflect.DeepEqual(a.nodes(), []string{"one"}) || a.WindowMS != 0 || a.Ticket != "" || a.Reason != "" || a.AloneMS <= 0 {
			t.Fatalf("%+v", a)
		}
		transports := []string{"websocket", "tcp"}[:max(len(addresses), 1)]
		if c := a.Candidates[0]; c.Site != "west" || !reflect.DeepEqual(c.Addresses, addresses) || !reflect.DeepEqual(c.Transports, transports) || c.Weight < 1 {
			t.Errorf("advertised %q, the node is named as %+v", advertised, c)
		}
		expires := time.UnixMilli(a.ExpiresMS)
		if expires.Before(before.Add(lbs.LeaseTime-time.Second)) || expires.After(after.Add(lbs.LeaseTime+time.Second)) {
			t.Errorf("at %v the place expires at %v", after, expires)
		}
		signer, err := lbs.NewSigner(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := signer.CheckLease(a.Lease, "one", "alice", time.Now()); err != nil {
			t.Errorf("the lease: %v", err)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json", "Access-Control-Allow-Origin": "*"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		only := n.question("?transports=tcp,new", n.by("bob"))
		if only.status != 200 || (only.Reason == "") != (len(addresses) > 0) {
			t.Errorf("advertised %q, a client that has TCP is told %+v", advertised, only)
		}
		if len(only.Candidates) > 0 && (len(only.Candidates[0].Addresses) != 1 || only.Candidates[0].Addresses["tcp"] == "") {
			t.Errorf("a client that has TCP is told %v", only.Candidates[0].Addresses)
		}
	}
}

// Whoever shows nothing that is good has no place, and takes none.
func TestStrangersTakeNothing(t *testing.T) {
	c := config(t)
	c.MaxConnections = 1
	n := start(t, c, server.Options{})
	foreign, err := lbs.NewSigner(make([]byte, lbs.MinSecretBytes))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.IssueTicket(lbs.Ticket{User: "alice", Shown: time.Now(), Expires: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		reason string
		shown  []func(*http.Request)
	}{
		{"stranger", nil},
		{"token", []func(*http.Request){shows("Authorization", "Bearer abc")}},
		{"token", []func(*http.Request){shows("Authorization", "Basic abc")}},
		{"token", []func(*http.Request){n.by("alice"), n.by("bob")}},
		{"token", []func(*http.Request){shows("Authorization", "Bearer abc"), shows("Pim-Ticket", forged)}},
		{"ticket", []func(*http.Request){shows("Pim-Ticket", forged)}},
		{"ticket", []func(*http.Request){shows("Pim-Ticket", "x")}},
	} {
		metric := fmt.Sprintf("pim_lbs_refusals_total{reason=%q}", test.reason)
		before := n.metric(metric)
		a := n.question("", test.shown...)
		if a.status != 401 || len(a.Candidates) > 0 || a.Lease != "" || a.Ticket != "" || a.Error == "" || a.RetryAfterMS != 60_000 ||
			a.header.Get("Retry-After") != "60" || a.header.Get("WWW-Authenticate") != "Bearer" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %+v", test.reason, a)
		}
		if n.metric(metric) != before+1 {
			t.Errorf("%s is not counted", metric)
		}
	}
	begun := time.Now()
	if a := n.question("", n.by("alice"), shows("Pim-Ticket", forged)); a.status != 200 || len(a.Candidates) != 1 {
		t.Errorf("the only place is gone: %+v", a)
	}
	// The place is taken for 15 s.
	if a := n.question("", n.by("bob")); time.Since(begun) < 10*time.Second && (a.status != 200 || a.Reason != "crowded") {
		t.Errorf("the only place is given twice: %+v", a)
	}
	if got := n.metric(`pim_lbs_answers_total{outcome="assigned"}`); got != 1 {
		t.Errorf("%d clients are counted as assigned", got)
	}
}

// A client that must wait gets a ticket, with which it asks again when its token is no longer good.
func TestTicketsStandInForTokens(t *testing.T) {
	c := config(t)
	c.MaxMemory = 1
	n := start(t, c, server.Options{})
	a := n.question("", n.by("bob"))
	if a.status != 200 || a.Candidates == nil || len(a.Candidates) != 0 || a.Lease != "" || a.Reason != "crowded" || a.WindowMS < 30_000 || a.Ticket == "" {
		t.Fatalf("a full node tells %+v", a)
	}
	for _, shown := range [][]func(*http.Request){
		{shows("Pim-Ticket", a.Ticket)},
		{shows("Pim-Ticket", a.Ticket), shows("Authorization", "Bearer expired")},
	} {
		if again := n.question("", shown...); again.status != 200 || again.Reason != "crowded" || again.Ticket == "" {
			t.Errorf("with a ticket: %+v", again)
		}
	}
	changed := a.Ticket[:len(a.Ticket)-2] + "AA"
	if again := n.question("", shows("Pim-Ticket", changed)); again.status != 401 && changed != a.Ticket {
		t.Errorf("with a ticket that was changed: %+v", again)
	}
	if again := n.question("", shows("Authorization", "Bearer "+a.Ticket)); again.status != 401 {
		t.Errorf("with a ticket as a token: %+v", again)
	}
}

// Of three nodes, one has no room, and one drains for a while: no client is sent there. On a machine that is too busy a node may be out
// of the others' views for some seconds, and is not named then either.
func TestWhoDrainsOrIsFullIsNotNamed(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
		if name == "b" {
			c.MaxMemory = 1
		}
		o.Bus.Update(func(n *bus.Node) { n.Site, n.Address = "site-"+name, "https://"+name+".example.org" })
	}, "a", "b", "c")
	l, users := nodes[2], 0
	named := func(site string) []string {
		users++
		a := l.question("?site=site-"+site, l.by(fmt.Sprint("user", users)))
		for _, c := range a.Candidates {
			if c.Addresses["websocket"] != "https://"+c.Node+".example.org" || c.Site != "site-"+c.Node {
				t.Errorf("a client is told %+v", c)
			}
		}
		if a.status != 200 || slices.Contains(a.nodes(), "b") {
			t.Fatalf("b has no room, and a client is told %+v", a)
		}
		return a.nodes()
	}
	until := func(site string, want ...string) {
		t.Helper()
		for end := deadline(); !slices.Equal(named(site), want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a client at site %s is told %v, want %v", site, named(site), want)
			}
		}
	}
	drain := func(does bool) {
		t.Helper()
		if err := server.Drain(t.Context(), nodes[0].config, "a", does); err != nil {
			t.Fatal(err)
		}
	}
	l.knows(1, "full")
	until("a", "a", "c")
	until("c", "c", "a")
	drain(true)
	l.knows(1, "draining")
	for range 10 {
		if got := named("a"); slices.Contains(got, "a") {
			t.Errorf("a drains, and a client is told %v", got)
		}
	}
	drain(false)
	until("a", "a", "c")
}

// A node that drains and knows no address of another one does not make clients wait for it: they dial those that they know. Once
// another node has an address that is named.
func TestNodesWithoutAddresses(t *testing.T) {
	buses := map[string]bus.Bus{}
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, _ *server.Config, o *server.Options) { buses[name] = o.Bus }, "a", "b")
	l := nodes[0]
	l.knows(1, "open")
	if a := l.question("", l.by("alice")); a.status != 200 || !slices.Equal(a.nodes(), []string{"a"}) {
		t.Errorf("before: %+v", a)
	}
	if err := server.Drain(t.Context(), l.config, "a", true); err != nil {
		t.Fatal(err)
	}
	l.knows(1, "draining")
	if a := l.question("", l.by("bob")); a.status != 503 || a.Kind != "unavailable" {
		t.Errorf("while it drains: %+v", a)
	}
	buses["b"].Update(func(n *bus.Node) { n.Address = nodes[1].url("http") })
	l.knows(1, "open")
	if a := l.question("", l.by("carol")); a.status != 200 || !slices.Equal(a.nodes(), []string{"b"}) {
		t.Errorf("when b has an address: %+v", a)
	}
}

// An LBS without gateways tells clients when to ask again, and a node without the role whom to ask.
func TestWithoutGatewaysOrRole(t *testing.T) {
	for roles, node := range map[string]bus.Role{
		"writer,home,lbs": bus.RoleWriter | bus.RoleHome | bus.RoleLBS, "gateway,writer,home": bus.RoleGateway | bus.RoleWriter | bus.RoleHome,
	} {
		c := config(t)
		c.Roles = roles
		n := start(t, c, server.Options{Bus: bustest.NewNetwork().Join(bus.Node{Name: "a", Roles: node})})
		a := n.question("", n.by("alice"))
		if node.Has(bus.RoleLBS) {
			if a.status != 200 || a.WindowMS != 30_000 || a.Ticket == "" || len(a.Candidates) != 0 {
				t.Errorf("without gateways: %+v", a)
			}
		} else if a.status != 503 || a.Kind != "unavailable" || a.header.Get("Retry-After") != "10" || a.RetryAfterMS != 10_000 {
			t.Errorf("without the role: %+v", a)
		}
	}
}

func TestWrongQuestions(t *testing.T) {
	n := start(t, config(t), server.Options{})
	method := func(name string) func(*http.Request) { return func(r *http.Request) { r.Method = name } }
	for _, test := range []struct {
		query  string
		change func(*http.Request)
		want   int
	}{
		{"", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1 }, 400},
		{"?site=West", func(*http.Request) {}, 400},
		{"?site=", func(*http.Request) {}, 400},
		{"?site=a&site=b", func(*http.Request) {}, 400},
		{"?site=a;b", func(*http.Request) {}, 400},
		{"?site=%zz", func(*http.Request) {}, 400},
		{"?transports=pigeon", func(*http.Request) {}, 400},
		{"?x=" + strings.Repeat("x", 600), func(*http.Request) {}, 400},
		{"", method(http.MethodPost), 405},
		{"", method(http.MethodHead), 405},
		{"", shows("Authorization", strings.Repeat("x", 9<<10)), 401},
		{"?transports=pigeon,websocket", func(*http.Request) {}, 200},
	} {
		if test.want == 401 {
			if a := n.question(test.query, test.change); a.status != 401 {
				t.Errorf("a long token: %+v", a)
			}
			continue
		}
		if a := n.question(test.query, n.by("alice"), test.change); a.status != test.want || len(a.Candidates) > 0 != (test.want == 200) {
			t.Errorf("%q: %d and not %d, %+v", test.query, a.status, test.want, a)
		}
	}
	a := n.question("", method(http.MethodOptions), shows("Origin", "https://app.example.org"), shows("Access-Control-Request-Method", "GET"))
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Headers") != "Authorization, Pim-Ticket" {
		t.Errorf("before a page of another origin asks: %d %v", a.status, a.header)
	}
}

// An address that asks too fast is refused, also without a token, and others are not.
func TestQuestionsHaveRates(t *testing.T) {
	c := config(t)
	c.TrustedProxies, c.AddressRate = "127.0.0.1", 1
	n := start(t, c, server.Options{})
	alice := n.by("alice")
	for end := deadline(); ; {
		a := n.question("", shows("X-Forwarded-For", "192.0.2.1"))
		if a.status == 503 {
			if a.Kind != "overloaded" || a.header.Get("Retry-After") == "" || a.RetryAfterMS <= 0 {
				t.Errorf("%+v", a)
			}
			break
		}
		if a.status != 401 || time.Now().After(end) {
			t.Fatalf("%+v", a)
		}
	}
	if n.metric(`pim_lbs_refusals_total{reason="address_rate"}`) != 1 {
		t.Error("the refusal is not counted")
	}
	if a := n.question("", alice, shows("X-Forwarded-For", "198.51.100.1")); a.status != 200 {
		t.Errorf("another address: %+v", a)
	}
}

func TestSecretOfLeases(t *testing.T) {
	c := config(t)
	c.LBSSecretFile = filepath.Join(c.Data, "secret")
	if _, err := server.New(c, server.Options{}); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "lbs-secret-file") {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(c.LBSSecretFile, []byte("0123456789abcdef0123456789abcde\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(c, server.Options{}); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "31 bytes") {
		t.Errorf("with a short secret: %v", err)
	}
}
