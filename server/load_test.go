package server_test

import (
	"testing"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/server"
)

// deadline is when a test that waits gives up: it tells a hang, and nothing else.
func deadline() time.Time { return time.Now().Add(5 * time.Minute) }

// Each gateway tells the other nodes what it can take, and how many connections it has.
func TestGatewaysSayTheirLoad(t *testing.T) {
	buses := make(map[string]bus.Bus)
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
		c.MaxConnections, c.AcceptRate, c.MaxMemory = 50, 70, 1<<40
		if name == "b" {
			c.Roles = "writer,home"
		}
		buses[name] = o.Bus
	}, "a", "b")
	nodes[0].connect("alice", "1", "http")
	says := func(of, by string, want func(bus.Load) bool) {
		t.Helper()
		for end := deadline(); ; time.Sleep(20 * time.Millisecond) {
			n := buses[by].View().Node(of)
			if n != nil && want(n.Load) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("node %s says %+v", of, n)
			}
		}
	}
	says("a", "b", func(l bus.Load) bool {
		memory := l.Memory
		l.Memory = 0
		return memory > 0 && memory < 1<<40 && l == bus.Load{
			Connections: 1, MaxConnections: 50, AcceptRate: 70, WebSocket: lbs.DefaultCosts[lbs.WebSocket], TCP: lbs.DefaultCosts[lbs.TCP],
		}
	})
	says("b", "a", func(l bus.Load) bool { return l == bus.Load{} }) // it is no gateway
}
