package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// A device is pushed the entries within its user's bounds, without those that it sent, in
// order, in frames within the limit.
func TestPushParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := conv.Published{Conversation: "g:x"}
		first := pim.Seq(rapid.Uint64Range(1, 1000).Draw(t, "first"))
		n := rapid.IntRange(1, 60).Draw(t, "entries")
		big := rapid.Bool().Draw(t, "big")
		for i := range n {
			e := pim.Entry{
				Conversation: "g:x", Seq: first + pim.Seq(i), Anchor: first + pim.Seq(i),
				Sender: pim.UserID(fmt.Sprint("u", rapid.IntRange(0, 2).Draw(t, "sender"))),
				Device: pim.DeviceID(fmt.Sprint("d", rapid.IntRange(0, 1).Draw(t, "device"))),
			}
			if big {
				e.Payload = make([]byte, rapid.IntRange(0, pim.MaxPayload).Draw(t, "payload"))
			}
			p.Entries = append(p.Entries, conv.Encoded{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)})
		}
		from := first + pim.Seq(rapid.IntRange(0, n).Draw(t, "from"))
		to := first + pim.Seq(rapid.IntRange(0, n).Draw(t, "to"))
		var want, got []pim.Seq
		for _, e := range p.Entries {
			if e.Seq >= from && e.Seq <= to && (e.Sender != "u1" || e.Device != "d1") {
				want = append(want, e.Seq)
			}
		}
		for _, part := range splitPush(&p) {
			spans, size := part.spans(nil, "u1", "d1", from, to)
			frame := slices.Clone(part.head)
			for _, s := range spans {
				frame = append(frame, part.body[s.from:s.to]...)
			}
			if len(frame) != len(part.head)+size {
				t.Fatalf("announced %d bytes of entries, copied %d", size, len(frame)-len(part.head))
			}
			if len(frame) > pim.MaxFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			_, m, err := wire.Decode(frame)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.(*wirepb.PIMPush).Entries {
				got = append(got, pim.Seq(e.Seq))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pushed %v, want %v", got, want)
		}
	})
}

// What nobody is to be pushed is not encoded: no member is connected, or only the device that
// sent it is.
func TestPushToNobodyAllocatesNothing(t *testing.T) {
	x := newLab(t, nil)
	x.connect(false, "alice", "phone")
	e := pim.Entry{Seq: 1, Anchor: 1, Sender: "alice", Device: "phone", Payload: make([]byte, 1000)}
	p := conv.Published{
		Conversation: "g:x", Members: []pim.UserID{"bob", "alice"}, Partly: []conv.Reader{{User: "carol", From: 1, To: 1}},
		Entries: []conv.Encoded{{Seq: 1, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
	}
	push := func() {
		if touched := x.gw.Sessions.push(&p, nil); touched != nil {
			t.Error("something is queued")
		}
	}
	if n := testing.AllocsPerRun(100, push); n != 0 {
		t.Errorf("%v allocations", n)
	}
	tablet := x.connect(false, "alice", "tablet")
	x.gw.Sessions.Deliver(nil, []conv.Published{p})
	if m := expect[*wirepb.PIMPush](tablet); len(m.Entries) != 1 {
		t.Errorf("her other device got %v", m)
	}
}
