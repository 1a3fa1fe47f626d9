package server_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/placement"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// holding is a store that holds the appends to a log up until open is closed. It notes how many records the largest of them had.
type holding struct {
	store.Store
	open chan struct{}

	mu   sync.Mutex
	log  store.Log
	most int
}

func (h *holding) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		h.mu.Lock()
		held := h.log != "" && w.Log == h.log && len(w.Records) > 0
		if held {
			h.most = max(h.most, len(w.Records))
		}
		h.mu.Unlock()
		if !held {
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
			var held *holding
			var own bus.Bus
			nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
				c.InFlight = test.inFlight
				if name == "b" {
					own = o.Bus
					o.WrapStore = func(st store.Store) store.Store {
						held = &holding{Store: st, open: make(chan struct{})}
						return held
					}
				}
			}, "a", "b", "c")
			writtenByB := func(from pim.UserID, name string) pim.UserID {
				for i := 0; ; i++ {
					u := pim.UserID(fmt.Sprint(name, i))
					if writer, _ := placement.Of(own.View(), bus.RoleWriter, string(pim.Direct(from, u))); writer == "b" {
						return u
					}
				}
			}
			slow, quick := pim.Direct("alice", writtenByB("alice", "slow")), pim.Direct("carol", writtenByB("carol", "quick"))
			held.mu.Lock()
			held.log = inbox.Entries(slow)
			held.mu.Unlock()
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
			for i := range 40 {
				carol.says(quick, fmt.Sprint("still ", i))
			}
			close(held.open)
			last := pim.Seq(0)
			for _, s := range sendings {
				sent, err := s.Wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if sent.Seq <= last {
					t.Errorf("seq %d behind %d", sent.Seq, last)
				}
				last = sent.Seq
			}
			held.mu.Lock()
			defer held.mu.Unlock()
			if held.most == 0 || test.bounded != (held.most <= 4) {
				t.Errorf("%d sends of a connection were at the writer's node at a time, of %d in flight", held.most, test.inFlight)
			}
		})
	}
}
