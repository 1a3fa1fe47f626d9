package route

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/prometheus/client_golang/prometheus"
)

// A node that joins has loaded what it is to write before it begins, and so have those that take over from one that
// drains. The first messages need no loads then.
func TestConversationsChangeHandsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seeds.First(t), []string{"a", "b"}, variant{})
		const chats = 300
		message := func(chat int) *want {
			u := pim.UserID(fmt.Sprint("user", chat))
			x := &want{Request: conv.Request{
				Conversation: pim.Direct(u, "bob"), Sender: u, Device: "phone", Kind: pim.EntryMessage,
				ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()),
			}}
			w.wants = append(w.wants, x)
			return x
		}
		toAll := func(n *node) {
			for chat := range chats {
				w.send(n, message(chat))
			}
			w.settle()
		}
		toAll(w.nodes[0])
		w.nodes = append(w.nodes, nil)
		w.joining = true
		w.open(2, "c", 2, bus.AllRoles)
		c := w.nodes[2]
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		c.WarmUp(ctx)
		cancel()
		warmed := valueOf(c.counts.Warmed)
		if warmed < chats/8 || warmed > chats*7/8 {
			t.Errorf("%v conversations were loaded in time", warmed)
		}
		c.bus.Update(func(n *bus.Node) { n.Draining = false })
		time.Sleep(5 * time.Second)
		toAll(w.nodes[0])
		if n := valueOf(c.counts.Forward); n < warmed/2 { // the store loses answers: some are loaded anew
			t.Errorf("of %v conversations %v went on", warmed, n)
		}

		a, b := w.nodes[0], w.nodes[1]
		before := valueOf(b.counts.Warmed) + valueOf(c.counts.Warmed)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		a.HandOver(ctx)
		cancel()
		synctest.Wait()
		told := valueOf(a.metrics.handedOver)
		if n := valueOf(b.counts.Warmed) + valueOf(c.counts.Warmed) - before; n == 0 || n > told {
			t.Errorf("%v conversations were told of, and %v loaded in time", told, n)
		}
		a.bus.Update(func(n *bus.Node) { n.Draining = true })
		toAll(b)
		for _, wrong := range w.check() {
			t.Error(wrong)
		}
		for _, n := range w.nodes {
			n.close()
		}
	})
}

// valueOf returns what c has counted.
func valueOf(c prometheus.Counter) float64 {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		panic(err)
	}
	return families[0].Metric[0].Counter.GetValue()
}

// A node without writers, and one whose writers load nothing in time, wait and say nothing.
func TestWhoHasNothingToWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, writers := range []func(conv.Outlet) Writer{nil, func(conv.Outlet) Writer { return discard{} }} {
			r := New(Options{Bus: nowhere{}, Gateway: discard{}, Home: discard{}, Writers: writers})
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			r.HandOver(ctx)
			r.WarmUp(ctx)
			cancel()
			if took := time.Since(began); took != time.Second {
				t.Errorf("it took %v", took)
			}
			if said, err := r.answerWarm(t.Context(), "b", nil); err != nil || len(said) > 0 {
				t.Errorf("said %q, %v", said, err)
			}
			r.Close()
			if _, err := r.answerWarm(t.Context(), "b", nil); pim.KindOf(err) != pim.KindUnavailable {
				t.Errorf("closed: %v", err)
			}
		}
	})
}
