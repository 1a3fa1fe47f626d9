package gateway

import (
	"testing"

	"github.com/pim-im/pim/wire"
)

// A connection whose first frame is refused holds no buffer while it lingers.
func TestARefusedHelloHoldsNoBuffer(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		for name, first := range map[string][]byte{
			"no Hello":   {byte(wire.TypeWelcome), 1, 2},
			"no message": {byte(wire.TypeHello), 0xff},
		} {
			x := newLab(t, nil)
			near, far := tcpPair(t)
			defer near.Close()
			defer far.Close()
			p := &peer{t: t, nc: near, websocket: websocket}
			p.write(append(p.frame(first), p.frame(make([]byte, 1000))...))
			c := newConn(x.gw, far, framingOf(websocket))
			if _, err := c.readHello(); err == nil {
				t.Fatalf("%s: it is taken", name)
			}
			if c.in.pooled != nil || c.in.partial != nil {
				t.Errorf("%s: a buffer is held", name)
			}
		}
	})
}
