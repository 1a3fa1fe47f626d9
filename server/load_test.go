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
	for end := deadline(); ; time.Sleep(20 * time.Millisecond) {
		l := buses["b"].View().Node("a").Load
		memory := l.Memory
		l.Memory = 0
		want := bus.Load{Connections: 1, MaxConnections: 50, AcceptRate: 70, WebSocket: lbs.DefaultCosts[lbs.WebSocket], TCP: lbs.DefaultCosts[lbs.TCP]}
		if l == want && memory > 0 && memory < 1<<40 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("node a says %+v, and has %d bytes; want %+v", l, memory, want)
		}
	}
	if l := buses["a"].View().Node("b").Load; l != (bus.Load{}) {
		t.Errorf("node b is no gateway and says %+v", l)
	}
}
