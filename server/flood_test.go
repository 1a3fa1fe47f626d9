package server_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/placement"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// holding is a store that holds the appends to a log up until open is closed.
type holding struct {
	store.Store
	open chan struct{}
	log  atomic.Pointer[store.Log]
}

func (h *holding) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	log := h.log.Load()
	for _, w := range writes {
		if log == nil || w.Log != *log || len(w.Records) == 0 {
			h.Store.Begin(ctx, []*store.Write{w}, d, done)
			continue
		}
		go func() {
			<-h.open
			h.Store.Begin(context.WithoutCancel(ctx), []*store.Write{w}, d, done)
		}()
	}
}

// A device on one node floods a conversation that another node writes, and that does not come on. The writer's node has as many sends of it
// as the gateway lets be in flight, other users' messages over the same two nodes go on meanwhile, and in the end all are there in their order.
func TestAFloodOverNodes(t *testing.T) {
	for _, test := range []struct {
		inFlight int
		bounded  bool // to 4
	}{{4, true}, {64, false}} { // without the bound it is noticed
		t.Run(fmt.Sprint(test.inFlight), func(t *testing.T) {
			for known := false; !known; { // the machine may be too busy for it
				if !t.Run("", func(t *testing.T) { known = floods(t, test.inFlight, test.bounded) }) {
					return
				}
			}
		})
	}
}

// floods plays a flood, and fails the test if bounded is not whether the sends at the writer's node are bounded to 4. It reports
// false if that took so long that the gateway's node has asked the writer's node again, and then perhaps another one: nothing is known then.
func floods(t *testing.T, inFlight int, bounded bool) bool {
	held := &holding{open: make(chan struct{})}
	var own bus.Bus
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
		c.InFlight = inFlight
		if name == "b" {
			own = o.Bus
			o.WrapStore = func(st store.Store) store.Store {
				held.Store = st
				return held
			}
		}
	}, "a", "b", "c")
	open := sync.OnceFunc(func() { close(held.open) })
	t.Cleanup(open) // else the nodes would wait without end
	writtenByB := func(from pim.UserID, name string) pim.UserID {
		for i := 0; ; i++ {
			u := pim.UserID(fmt.Sprint(name, i))
			if writer, _ := placement.Of(own.View(), bus.RoleWriter, string(pim.Direct(from, u))); writer == "b" {
				return u
			}
		}
	}
	slow, quick := pim.Direct("alice", writtenByB("alice", "slow")), pim.Direct("carol", writtenByB("carol", "quick"))
	log := inbox.Entries(slow)
	held.log.Store(&log)
	alice, carol := nodes[0].connect("alice", "1", "tcp"), nodes[0].connect("carol", "1", "tcp")
	go func() {
		for range alice.Events() {
		}
	}()
	var sendings []*client.Sending
	for i := range 60 {
		s, err := alice.Send(t.Context(), slow, []byte(fmt.Sprint("m", i)))
		if err != nil {
			t.Fatal(err)
		}
		sendings = append(sendings, s)
	}
	for nodes[1].metric("pim_send_queue") < min(inFlight, 8) { // they are on their way, and nothing is answered
		time.Sleep(5 * time.Millisecond)
	}
	for i := range 10 {
		carol.says(quick, fmt.Sprint("still ", i))
	}
	atB := nodes[1].metric("pim_send_queue")
	open()
	last, ordered := pim.Seq(0), true
	for _, s := range sendings {
		sent := alice.done(s)
		ordered, last = ordered && sent.Seq > last, sent.Seq
	}
	if nodes[0].metric(`pim_route_repeats_total{reason="silence"}`) > 0 {
		return false
	}
	if !ordered {
		t.Error("the messages are in another order than they were sent in")
	}
	if bounded != (atB <= 4+1) { // the last one of carol's may still be counted
		t.Errorf("%d sends of a connection were at the writer's node at a time, of %d in flight", atB, inFlight)
	}
	return true
}

// metric returns what the metrics page has for a metric, 0 if it has none.
func (n *node) metric(name string) int {
	n.t.Helper()
	_, page := n.page("/metrics")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				n.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}
