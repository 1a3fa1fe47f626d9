package gateway

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// calm waits until all that was queued for c is written.
func (x *lab) calm(c *conn) {
	x.t.Helper()
	x.eventually("all is written", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.sending && c.unsent() == 0 && c.inFlight == 0
	})
}

// If the socket has room for what Deliver queues, it is written when Deliver returns.
func TestDeliverWritesAtOnce(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		c := x.conn("alice")
		x.calm(c)
		for range 20 {
			x.push("alice", 1, 100)
			c.mu.Lock()
			sending, unsent := c.sending, c.unsent()
			c.mu.Unlock()
			if sending || unsent != 0 {
				t.Fatalf("after Deliver: sending %v, %d bytes unsent", sending, unsent)
			}
			expect[*wirepb.PIMPush](p)
		}
	})
}

// If a socket takes only a part or nothing, the rest is written when it has room, in order
// and nothing twice.
func TestDirectWriteInParts(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, func(l *Limits) { l.QueueBytes = 64 << 20 })
		p := x.connect(websocket, "alice", "phone")
		c := x.conn("alice")
		const n, size = 1200, 30_000 // more than the kernel's buffers take
		x.push("alice", n, size)
		c.mu.Lock()
		if !c.sending || c.unsent() == 0 {
			t.Errorf("the socket took all of it: sending %v, %d bytes unsent", c.sending, c.unsent())
		}
		c.mu.Unlock()
		for next := uint64(1); next <= n; {
			for _, e := range expect[*wirepb.PIMPush](p).Entries {
				if e.Seq != next || len(e.Payload) != size {
					t.Fatalf("entry %d with %d bytes, %d is due", e.Seq, len(e.Payload), next)
				}
				next++
			}
		}
		x.calm(c)
	})
}

// A Deliver reaches all connections, also those above maxDirect.
func TestDeliverToMany(t *testing.T) {
	x := newLab(t, nil)
	var users []pim.UserID
	var peers []*peer
	for i := range maxDirect + 20 {
		u := fmt.Sprintf("user%d", i)
		users, peers = append(users, pim.UserID(u)), append(peers, x.connect(i%2 == 0, u, "phone"))
	}
	e := pim.Entry{Seq: 1, Anchor: 1, Sender: "other", Device: "d", Payload: []byte("to all")}
	x.gw.Sessions.Deliver(nil, []conv.Published{{
		Conversation: "g:x", Members: users,
		Entries: []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
	}})
	for _, p := range peers {
		if m := expect[*wirepb.PIMPush](p); len(m.Entries) != 1 {
			t.Errorf("got %v", m)
		}
	}
	for _, u := range users {
		x.calm(x.conn(u))
	}
}
