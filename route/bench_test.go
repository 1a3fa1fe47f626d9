package route

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
)

// wired is a bus that hands bodies to another Router, from a goroutine that has nothing else to do.
type wired struct {
	nowhere
	self string
	to   chan carried
}

type carried struct {
	kind bus.Kind
	body []byte
}

func (b *wired) Self() string { return b.self }

func (b *wired) Send(_ string, k bus.Kind, body []byte) error {
	b.to <- carried{k, slices.Clone(body)}
	return nil
}

func (b *wired) carry(from string, to *Router) {
	for c := range b.to {
		if c.kind == bus.KindSubmit {
			to.receiveSubmit(from, c.body)
		} else {
			to.receiveAnswers(from, c.body)
		}
	}
}

// ready is a writer that answers at once.
type ready struct{ outlet conv.Outlet }

func (w ready) Submit(requests []*conv.Request) {
	all := make([]conv.Answer, len(requests))
	for i, r := range requests {
		all[i] = conv.Answer{Request: r, Seq: 1, Server: 1_795_000_000_000}
	}
	w.outlet.Deliver(all, nil)
}

// What a request costs that another node writes: CPU and allocations of both Routers, without the bus and the writers.
// So many requests of one read go together, and come back together.
func BenchmarkForwarded(b *testing.B) {
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprintf("together=%d", batch), func(b *testing.B) {
			there, back := &wired{self: "a", to: make(chan carried, 16)}, &wired{self: "b", to: make(chan carried, 16)}
			out := told{make(chan conv.Answer, batch)}
			asks := New(Options{Bus: there, Gateway: out, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
			writes := New(Options{Bus: back, Gateway: discard{}, Home: discard{}, Writers: func(o conv.Outlet) Writer { return ready{o} }})
			go there.carry("a", writes)
			go back.carry("b", asks)
			asks.changed(viewOf(1, "b"))
			requests := make([]*conv.Request, batch)
			for i := range requests {
				requests[i] = &conv.Request{
					Conversation: pim.Direct("alice", "bob"), Kind: pim.EntryMessage, Sender: "alice", Device: "phone",
					ClientID: pim.ClientMessageID{1, byte(i)}, Local: 1_795_000_000_000, Payload: make([]byte, 100),
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += batch {
				asks.Submit(requests)
				for range batch {
					<-out.answers
				}
			}
			b.StopTimer()
			asks.Close()
			writes.Close()
			close(there.to)
			close(back.to)
		})
	}
}

// What a request costs that this node writes, beyond what the writers cost: no allocation.
func BenchmarkHere(b *testing.B) {
	r := New(Options{Bus: nowhere{}, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
	defer r.Close()
	r.changed(&bus.View{Nodes: []bus.Node{{Name: "a", Roles: bus.AllRoles, Weight: 1}}})
	requests := []*conv.Request{{Conversation: pim.Direct("alice", "bob"), Kind: pim.EntryMessage, Sender: "alice"}}
	answers := []conv.Answer{{Request: requests[0]}}
	b.ReportAllocs()
	for b.Loop() {
		r.Submit(requests)
		r.Deliver(answers, nil)
	}
}

// One read that sends to one other node is one message, and so are its answers.
func TestWhatGoesTogetherTravelsTogether(t *testing.T) {
	there, back := &wired{self: "a", to: make(chan carried, 16)}, &wired{self: "b", to: make(chan carried, 16)}
	out := told{make(chan conv.Answer, 100)}
	asks := New(Options{Bus: there, Gateway: out, Home: discard{}})
	writes := New(Options{Bus: back, Gateway: discard{}, Home: discard{}, Writers: func(o conv.Outlet) Writer { return ready{o} }})
	defer asks.Close()
	defer writes.Close()
	asks.changed(viewOf(1, "b"))
	var requests []*conv.Request
	for i := range 50 {
		requests = append(requests, &conv.Request{Conversation: pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), Kind: pim.EntryMessage, Sender: "alice", ClientID: pim.ClientMessageID{1, byte(i)}})
	}
	asks.Submit(requests)
	c := <-there.to
	writes.receiveSubmit("a", c.body)
	c = <-back.to
	asks.receiveAnswers("b", c.body)
	if len(out.answers) != 50 || len(there.to)+len(back.to) > 0 {
		t.Errorf("%d answers came with the first message each way", len(out.answers))
	}
}

// What the node itself writes is not copied, and costs no allocation here.
func TestHereNothingIsAllocated(t *testing.T) {
	r := New(Options{Bus: nowhere{}, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
	defer r.Close()
	r.changed(&bus.View{Nodes: []bus.Node{{Name: "a", Roles: bus.AllRoles, Weight: 1}}})
	requests := []*conv.Request{{Conversation: pim.Direct("alice", "bob"), Kind: pim.EntryMessage, Sender: "alice"}}
	answers := []conv.Answer{{Request: requests[0]}}
	if n := testing.AllocsPerRun(100, func() {
		r.Submit(requests)
		r.Deliver(answers, nil)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
