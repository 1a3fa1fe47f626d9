//go:build linux || darwin

package gateway

import (
	"net"
	"testing"
)

// The kernel takes little more than the client does, so that the gateway sees how
// the client gets on, and holds what is left within its own bounds.
func TestKernelTakesNoMoreThanTheClient(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		const n, size = 64, 60 << 10
		x := newLab(t, func(l *Limits) { l.QueueBytes = n * (size + 1024) })
		p := x.connect(websocket, "alice", "phone")
		if err := p.nc.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		x.push("alice", n, size)
		c := x.conn("alice")
		x.eventually("the connection's socket is full", func() bool {
			since := c.writing.Load()
			return since != 0 && x.gw.elapsed()-since > 100
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		if taken := n*size - c.unsent(); taken > n*size/4 {
			t.Errorf("%d bytes are on their way to a client that reads nothing", taken)
		}
	})
}
