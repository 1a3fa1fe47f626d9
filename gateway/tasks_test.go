package gateway

import (
	"context"
	"testing"

	"github.com/pim-im/pim/wire/wirepb"
)

// A pull ends with its connection: when the client is gone, when it is asked to go and can get
// no answer any more, and when the gateway closes. The pulls behind it are not begun.
func TestPullsEndWithTheirConnection(t *testing.T) {
	for name, end := range map[string]func(x *lab, p *peer){
		"the client is gone":        func(x *lab, p *peer) { p.nc.Close() },
		"the client is asked to go": func(x *lab, p *peer) { x.conn("alice").goAway() },
		"the gateway is ending":     func(x *lab, p *peer) { x.gw.cancel() }, // with which Close begins
		"the gateway closes":        func(x *lab, p *peer) { x.gw.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, websocket bool) {
				x := newLab(t, nil)
				begun, ended := make(chan struct{}, 10), make(chan struct{}, 10)
				x.pull = func(ctx context.Context) {
					begun <- struct{}{}
					<-ctx.Done()
					ended <- struct{}{}
				}
				p := x.connect(websocket, "alice", "phone")
				c := x.conn("alice")
				for i := range 3 {
					p.send(&wirepb.PIMPullReq{RequestId: uint64(i + 1), Conversation: "g:x"})
				}
				<-begun
				x.eventually("the others wait", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return len(c.tasks.waiting) == 2
				})
				end(x, p)
				<-ended
				x.eventually("no task is left", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.tasks == nil
				})
				if n := len(begun); n != 0 {
					t.Errorf("%d more were begun", n)
				}
			})
		})
	}
}

// Each pull of a long row has a context that has not ended, however they come.
func TestPullsInARow(t *testing.T) {
	x := newLab(t, nil)
	x.pull = func(ctx context.Context) {
		if err := ctx.Err(); err != nil {
			t.Error(err)
		}
	}
	p := x.connect(false, "alice", "phone")
	for i := range 500 {
		p.send(&wirepb.PIMPullReq{RequestId: uint64(i + 1), Conversation: "g:x"})
		if i%3 == 0 {
			continue // the next comes while this one is served, or just after
		}
		for range 1 + i%3/2 {
			if m := expect[*wirepb.PIMPullResp](p); !m.Done {
				t.Fatalf("answered with %v", m)
			}
		}
	}
}
