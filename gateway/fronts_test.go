package gateway

import (
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire/wirepb"
)

// A device that can use fronts asks for them, is told of them, and acknowledges them. What by its ID
// can't be the user's is dropped, and one frame brings no more than inbox.AckShare.
func TestFrontsOnTheWire(t *testing.T) {
	x := newLab(t, nil)
	x.list = inbox.SyncPage{Fronts: []inbox.Front{{Conversation: "d:alice:bob", Front: 5}, {Conversation: "g:x", Front: 1 << 62}}}
	p := x.connect(false, "alice", "phone")
	for _, wants := range []bool{false, true} {
		p.send(&wirepb.PIMSyncReq{RequestId: 1, Fronts: wants})
		resp := expect[*wirepb.PIMSyncResp](p)
		x.mu.Lock()
		asked := x.synced
		x.mu.Unlock()
		if asked.Fronts != wants || asked.User != "alice" || asked.Device != "phone" {
			t.Errorf("asked for fronts: %v, the reader got %+v", wants, asked)
		}
		var got []inbox.Front
		for _, f := range resp.Fronts {
			got = append(got, inbox.Front{Conversation: pim.ConversationID(f.Conversation), Front: pim.Seq(f.Front)})
		}
		if !reflect.DeepEqual(got, x.list.Fronts) {
			t.Errorf("told of %v", got)
		}
		if size := 1 + resp.SizeVT(); size > x.list.Size() {
			t.Errorf("%d bytes, in place of %d at most", size, x.list.Size())
		}
	}

	m := &wirepb.PIMPushAck{Serial: 1, Acks: []*wirepb.Ack{{Conversation: "g:x", Seq: 7}}}
	for _, c := range []string{"d:alice:bob", "d:bob:carol", "g:x", "", "u:bob", "g:" + string(make([]byte, 300))} {
		m.Fronts = append(m.Fronts, &wirepb.Front{Conversation: c, Front: 5})
	}
	p.send(m, &wirepb.PIMPing{})
	expect[*wirepb.PIMPong](p)
	if want := []inbox.Front{{Conversation: "d:alice:bob", Front: 5}, {Conversation: "g:x", Front: 5}}; !reflect.DeepEqual(x.fronts, want) || len(x.acks) != 1 {
		t.Errorf("noted %v, and %v", x.fronts, x.acks)
	}
	x.fronts, x.acks, m.Fronts = nil, nil, nil
	for range inbox.AckShare + 10 {
		m.Fronts = append(m.Fronts, &wirepb.Front{Conversation: "g:x", Front: 7})
	}
	p.send(m, &wirepb.PIMPing{})
	expect[*wirepb.PIMPong](p)
	if len(x.fronts)+len(x.acks) != inbox.AckShare {
		t.Errorf("%d fronts and %d acks of one frame are noted", len(x.fronts), len(x.acks))
	}
}
