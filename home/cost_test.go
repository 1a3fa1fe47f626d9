package home

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/conv"
)

// A push to a group of 200 over 3 nodes is one message to each other home, and one from each home to
// each other gateway.
func TestMessagesOfAPush(t *testing.T) {
	bubble(t, func(w *world) {
		var sent [256]atomic.Int64
		w.broken = func(s *site) { s.home.bus = counting{s.home.bus, &sent} }
		sites := w.start("a", "b", "c")
		w.fills(200, sites...)
		sites[0].writes(everybody)
		synctest.Wait()
		w.good(0)
		if published, pushed := sent[bus.KindPublish].Load(), sent[bus.KindPush].Load(); published != 2 || pushed != 6 {
			t.Errorf("%d messages to homes and %d to gateways, want 2 and 6", published, pushed)
		}
	})
}

// counting is a bus that counts the messages that are sent, by kind.
type counting struct {
	bus.Bus
	sent *[256]atomic.Int64
}

func (c counting) Send(to string, k bus.Kind, body []byte) error {
	c.sent[k].Add(1)
	return c.Bus.Send(to, k, body)
}

// What a home knows of a device is bounded, and is less than half a KiB.
func TestMemoryOfADevice(t *testing.T) {
	const devices = 100_000
	d := newDirectory(devices, func(pim.UserID) {})
	g := &gate{node: node{"a", 1}}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range devices {
		u := pim.UserID(fmt.Sprint("user-with-a-name-", i))
		p := place{device: pim.DeviceID(fmt.Sprint("0197a5c0-0000-7000-8000-", i)), gate: g, conn: uint64(i)}
		if e := d.enter(u, p, 10); e.refused != accepted {
			t.Fatal(e)
		}
	}
	each := (heap() - before) / devices
	t.Logf("%d bytes for each device", each)
	if each > 512 {
		t.Errorf("%d bytes for each device", each)
	}
	if e := d.enter("one more", place{device: "d", gate: g}, 10); e.refused != full {
		t.Errorf("one more: %+v", e)
	}
	runtime.KeepAlive(d)
}

// nobody are Sessions without connections.
type nobody struct{ Sessions }

func (nobody) Deliver([]conv.Answer, []conv.Published) {}

// BenchmarkHome is the home's part of a push that came over the bus: to 67 members, whose devices are at
// the home's own node and at two others, as in a group of 200 over 3 nodes.
func BenchmarkHome(b *testing.B) {
	w := bustest.NewNetwork()
	node := w.Join(bus.Node{Name: "a"})
	h := New(Options{Bus: node, Sessions: nobody{}, Logger: slog.New(slog.DiscardHandler)})
	var handler bus.Handler
	h.Handle(&handler)
	if err := node.Start(b.Context(), &handler); err != nil {
		b.Fatal(err)
	}
	defer node.Close()
	defer h.Close()
	var members []pim.UserID
	for i := range 67 {
		u := pim.UserID(fmt.Sprint("user", i))
		members = append(members, u)
		h.directory.enter(u, place{device: "phone", gate: h.gate(string(rune('a' + i%3)))}, 0)
	}
	r := takeRound(h)
	var one body
	e := parcel{entries: &conv.Published{Conversation: everybody, Entries: []conv.Encoded{encodedEntry(1)}}}
	r.append(&one, e.encode()[0], members, nil, false)
	b.ReportAllocs()
	for b.Loop() {
		h.receivePublish("b", one.data)
	}
}
