package server

import (
	"math"
	"reflect"
	"testing"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/lbs"
)

func TestViewOfTheNodes(t *testing.T) {
	load := bus.Load{Connections: 3, MaxConnections: 10, AcceptRate: 100, Memory: 1 << 20, WebSocket: 7000}
	unready := load
	unready.Unready = true
	lbsOnly := bus.Node{Name: "l", Site: "s", Roles: bus.RoleLBS}
	costs := lbs.DefaultCosts
	costs[lbs.WebSocket] = 7000
	whole := lbs.Gateway{
		Name: "g", Site: "s", Addresses: []string{"wss://g", "TLS://g:1"}, Transports: lbs.Of(lbs.WebSocket, lbs.TCP), Shares: 2,
		Connections: 3, MaxConnections: 10, Memory: 1 << 20, Costs: costs, AcceptRate: 100, Ready: true,
	}
	with := func(change func(*lbs.Gateway)) []lbs.Gateway {
		g := whole
		change(&g)
		return []lbs.Gateway{g}
	}
	node := bus.Node{Name: "g", Site: "s", Roles: bus.RoleGateway | bus.RoleLBS, Address: "wss://g, TLS://g:1", Load: load}
	for _, c := range []struct {
		name   string
		self   string
		change func(*bus.Node)
		want   []lbs.Gateway
	}{
		{"a gateway", "l", func(*bus.Node) {}, with(func(*lbs.Gateway) {})},
		{"the LBS itself", "g", func(*bus.Node) {}, with(func(*lbs.Gateway) {})},
		{"no gateway", "l", func(n *bus.Node) { n.Roles = bus.RoleLBS }, nil},
		{"no LBS", "l", func(n *bus.Node) { n.Roles = bus.RoleGateway }, with(func(g *lbs.Gateway) { g.Shares = 1 })},
		{"it drains", "l", func(n *bus.Node) { n.Draining = true }, with(func(g *lbs.Gateway) { g.Draining = true })},
		{"it can't serve", "l", func(n *bus.Node) { n.Load = unready }, with(func(g *lbs.Gateway) { g.Ready = false })},
		{"another one without an address", "l", func(n *bus.Node) { n.Address = "" }, nil},
		{"another one with an address of a later version", "l", func(n *bus.Node) { n.Address = "later://g" }, nil},
		{"the LBS itself without an address", "g", func(n *bus.Node) { n.Address = "" }, with(func(g *lbs.Gateway) {
			g.Addresses, g.Transports, g.Shares = nil, lbs.Of(lbs.WebSocket), 1
		})},
		{"of an earlier version", "l", func(n *bus.Node) { n.Load, n.Address = bus.Load{MaxConnections: 10}, "https://g" }, with(func(g *lbs.Gateway) {
			g.Connections, g.AcceptRate, g.Memory, g.Costs = -1, earlierRate, math.MaxInt64, lbs.DefaultCosts
			g.Addresses, g.Transports = []string{"https://g"}, lbs.Of(lbs.WebSocket)
		})},
	} {
		n := node
		c.change(&n)
		if got := viewOf([]bus.Node{n, lbsOnly}, c.self).Gateways; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", c.name, got, c.want)
		}
	}
}

// A question has what a Balancer takes, whatever the query is.
func FuzzQuestion(f *testing.F) {
	for _, query := range []string{"", "site=a&transports=websocket,tcp", "site=a&site=b", "transports=", "site=%zz", "a;b", "site=" + string(make([]byte, 70))} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := parseQuestion(query)
		if err != nil {
			if !reflect.DeepEqual(q, lbs.Request{}) {
				t.Errorf("%q is refused, and is %+v", query, q)
			}
			return
		}
		if q.Site != "" && bus.CheckName("site", q.Site) != nil || q.Transports&^lbs.AllTransports != 0 || q.User != "" || q.From.IsValid() {
			t.Errorf("%q is %+v", query, q)
		}
	})
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer x")
	f.Add("bearer  x ")
	f.Add("Bearer")
	f.Fuzz(func(t *testing.T, line string) {
		if token, ok := bearer([]string{line}); ok && (token == "" || token[0] == ' ' || token[len(token)-1] == ' ') {
			t.Errorf("%q has the token %q", line, token)
		}
	})
}
