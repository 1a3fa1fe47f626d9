package gateway

import (
	"context"
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
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

// A run that a goroutine gets when the gateway has just closed ends at once, and so does the goroutine.
func TestRunsEndAfterClose(t *testing.T) {
	x := newLab(t, nil)
	x.connect(false, "alice", "phone")
	c := x.conn("alice")
	run := &taskRun{conn: c, waiting: []task{{id: 1, pull: &inbox.PullRequest{}}}}
	c.mu.Lock()
	c.tasks = run
	c.mu.Unlock()
	x.gw.cancel()
	x.gw.serveRun(run)
	x.eventually("the run has ended", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tasks == nil
	})
	x.gw.Close()
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

// The newest conversations come ahead of a list that is longer than its first 16 KiB, however few
// they are, and of no other.
func TestTheNewestComeAhead(t *testing.T) {
	summaries := func(n int) (list []inbox.Summary) {
		for i := range n {
			list = append(list, inbox.Summary{Conversation: pim.ConversationID(fmt.Sprintf("g:%0100d", i))})
		}
		return list
	}
	for name, test := range map[string]struct {
		list  inbox.SyncPage
		ahead bool
	}{
		"a short list":              {inbox.SyncPage{Summaries: summaries(50)}, false},
		"a long one":                {inbox.SyncPage{Summaries: summaries(200)}, true},
		"one of more than one page": {inbox.SyncPage{Summaries: summaries(1), Next: "g:next"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newLab(t, nil)
			x.list, x.recent = test.list, summaries(1)
			p := x.connect(false, "alice", "phone")
			p.send(&wirepb.PIMSyncReq{RequestId: 1, Recent: 1})
			if test.ahead {
				if m := expect[*wirepb.PIMSyncResp](p); !m.Recent || len(m.Conversations) != 1 || m.RequestId != 1 {
					t.Errorf("ahead comes %v", m)
				}
			}
			if m := expect[*wirepb.PIMSyncResp](p); m.Recent || len(m.Conversations) != len(test.list.Summaries) || m.NextAfter != string(test.list.Next) {
				t.Errorf("%d conversations come, recent: %t", len(m.Conversations), m.Recent)
			}
		})
	}
}
