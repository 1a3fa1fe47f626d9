package conv_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// readCounter counts the reads of a store.
type readCounter struct {
	store.Store
	reads atomic.Int64 // of cells and records, and of a log's last seq alone
}

func (c *readCounter) Get(ctx context.Context, gets []store.Get) error {
	c.reads.Add(int64(len(gets)))
	return c.Store.Get(ctx, gets)
}

func (c *readCounter) Read(ctx context.Context, reads []store.Read) error {
	err := c.Store.Read(ctx, reads)
	for i := range reads {
		c.reads.Add(int64(len(reads[i].Records)))
		if reads[i].Limit == (store.Limit{}) {
			c.reads.Add(1)
		}
	}
	return err
}

func (c *readCounter) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := c.Store.List(ctx, p, after, limit)
	c.reads.Add(int64(len(cells)))
	return cells, err
}

// inMemory returns how many conversations the writers hold.
func inMemory(t *testing.T, r *prometheus.Registry) float64 {
	return gauge(t, r, "pim_conversations_live")
}

// atMost waits until the writers hold at most so many conversations, and returns how many: a driver shrinks after it has
// answered. If they hold more for five minutes, it returns that.
func atMost(t *testing.T, r *prometheus.Registry, most float64) (n float64) {
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
		if n = inMemory(t, r); n <= most || time.Now().After(deadline) {
			return n
		}
	}
}

// gauge returns what r shows under name.
func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("%s is not measured", name)
	return 0
}

// A request of a user who is not a member of a conversation does not load it. For a direct
// conversation and for an own log the conversation's ID tells enough. A group that does not
// exist costs one read, and no write.
func TestStrangersLoadNothing(t *testing.T) {
	s := &readCounter{Store: storetest.NewMemory()}
	rec := newRecorder()
	registry := prometheus.NewRegistry()
	metrics := conv.NewMetrics(registry)
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Metrics: metrics})
	mute := func(sender pim.UserID, subject string) *conv.Request {
		r := message(pim.Own("bob"), sender, "")
		r.Kind = pim.EntryCommand
		r.Payload = wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandMute, Subject: subject})
		return r
	}
	for i := range 100 {
		for _, r := range []*conv.Request{mute("bob", fmt.Sprint("g:", i)), message("d:alice:bob", "bob", "x")} {
			if _, err := persist(w, rec, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Close()
	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Metrics: metrics})
	defer w.Close()

	change := func(kind pim.EntryKind) *conv.Request {
		r := message("g:none", "eve", "")
		r.Kind, r.Members = kind, []pim.UserID{"eve"}
		return r
	}
	for _, test := range []struct {
		name  string
		r     *conv.Request
		reads int64
	}{
		{"a command", mute("eve", "g:x"), 0},
		{"a message", message("d:alice:bob", "eve", "x"), 0},
		{"a message to a group that is not there", message("g:none", "eve", "x"), 1},
		{"a join to it", change(pim.EntryJoin), 1},
		{"a leave from it", change(pim.EntryLeave), 1},
	} {
		before, live := s.reads.Load(), inMemory(t, registry)
		if _, err := persist(w, rec, test.r); pim.KindOf(err) != pim.KindNotMember {
			t.Errorf("%s: answered with %v", test.name, err)
		}
		if n := s.reads.Load() - before; n > test.reads {
			t.Errorf("%s: %d reads, want %d", test.name, n, test.reads)
		}
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The answer comes before the end of the driver's turn, which counts the conversations.
		for deadline := time.Now().Add(5 * time.Minute); inMemory(t, registry) != live; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v conversations are in memory, there were %v", test.name, inMemory(t, registry), live)
			}
		}
	}
	r := message("d:eve:nobody", "eve", "")
	r.Kind, r.Refers, r.Reaction = pim.EntryReaction, 1, "+"
	if _, err := persist(w, rec, r); pim.KindOf(err) != pim.KindNotFound {
		t.Errorf("a reaction to nothing: answered with %v", err)
	}
	for _, c := range []pim.ConversationID{"g:none", "d:eve:nobody"} {
		if _, fence, err := store.LogEnd(t.Context(), s, inbox.Entries(c)); err != nil || fence != 0 {
			t.Errorf("%s, which is not there, has the fence %d, %v", c, fence, err)
		}
	}
}
