package gateway

import (
	"bytes"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A frame of many small elements allocates about as many bytes as it has, not a multiple.
func TestFramesAreNotAmplified(t *testing.T) {
	empty := bytes.Repeat([]byte{0x12, 0}, pim.MaxFrame/2-1)
	made := bytes.Repeat([]byte{0x12, 5, 0x0a, 3, 'g', ':', 'x'}, pim.MaxFrame/7-1)
	members := append([]byte{0x12, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, bytes.Repeat([]byte{0x3a, 0}, pim.MaxFrame/2-16)...)
	for _, test := range []struct {
		name  string
		frame []byte
	}{
		{"empty acks", append([]byte{byte(wire.TypePushAck)}, empty...)},
		{"acks of one group", append([]byte{byte(wire.TypePushAck)}, made...)},
		{"empty fronts", append([]byte{byte(wire.TypePushAck)}, bytes.Repeat([]byte{0x1a, 0}, pim.MaxFrame/2-1)...)},
		{"fronts of one group", append([]byte{byte(wire.TypePushAck)}, bytes.Repeat([]byte{0x1a, 5, 0x0a, 3, 'g', ':', 'x'}, pim.MaxFrame/7-1)...)},
		{"empty members", append([]byte{byte(wire.TypeSendReq)}, members...)},
		{"a long name", wire.Append(nil, &wirepb.PIMSendReq{ClientMessageId: make([]byte, 16), Conversation: strings.Repeat("\x01", 250<<10)})},
	} {
		var c *conn
		n := uint64(math.MaxUint64)
		for range 5 { // the least of several: meanwhile other goroutines allocate, too
			x := newLab(t, nil)
			x.connect(false, "alice", "phone")
			c = x.conn("alice")
			n = min(n, allocated(func() {
				if err := c.handle(test.frame); err != nil {
					t.Errorf("%s: %v", test.name, err)
				}
			}))
		}
		if n > 2*pim.MaxFrame {
			t.Errorf("%s: a frame of %d bytes takes %d", test.name, len(test.frame), n)
		} else {
			t.Logf("%s: a frame of %d bytes takes %d", test.name, len(test.frame), n)
		}
		if len(c.in.sends) != 0 {
			t.Errorf("%s: comes to %d sends", test.name, len(c.in.sends))
		}
	}
}

// A request that names more members than a group may have is refused by their number,
// before it reaches a writer.
func TestTooManyMembers(t *testing.T) {
	x := newLab(t, nil)
	x.submit = func(r []*conv.Request) { t.Errorf("submitted with %d members", len(r[0].Members)) }
	p := x.connect(true, "alice", "phone")
	m := sendReq(1, "")
	m.Members = make([]string, x.gw.Limits.Members+1)
	p.send(m)
	if e := expect[*wirepb.PIMError](p); e.Kind != wirepb.ErrorKind_ERROR_KIND_TOO_LARGE || !bytes.Equal(e.ClientMessageId, m.ClientMessageId) {
		t.Errorf("answered with %v", e)
	}
}

// Acknowledgements of conversations that by their IDs cannot be the user's are not noted,
// and of one frame no more than inbox.AckShare.
func TestPushAcksOfOthers(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(false, "alice", "phone")
	m := &wirepb.PIMPushAck{Serial: 1}
	for _, c := range []string{"u:alice", "u:bob", "d:alice:bob", "d:bob:carol", "g:x", "", "nonsense", "g:" + string(make([]byte, 300))} {
		m.Acks = append(m.Acks, &wirepb.Ack{Conversation: c, Seq: 7})
	}
	p.send(m, &wirepb.PIMPing{})
	expect[*wirepb.PIMPong](p)
	var got []pim.ConversationID
	for _, a := range x.acks {
		got = append(got, a.Conversation)
	}
	if len(got) != 3 || got[0] != "u:alice" || got[1] != "d:alice:bob" || got[2] != "g:x" {
		t.Errorf("noted %q", got)
	}
	x.acks, m.Acks = nil, nil
	for range inbox.AckShare + 10 {
		m.Acks = append(m.Acks, &wirepb.Ack{Conversation: "g:x", Seq: 7})
	}
	p.send(m, &wirepb.PIMPing{})
	expect[*wirepb.PIMPong](p)
	if len(x.acks) != inbox.AckShare {
		t.Errorf("%d of one frame are noted", len(x.acks))
	}
}

// A request that names a conversation longer than any ID is refused at once, so that waiting
// requests stay small.
func TestWaitingRequestsAreSmall(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(true, "alice", "phone")
	long := string(make([]byte, 250<<10))
	p.send(&wirepb.PIMSyncReq{RequestId: 1, After: long}, &wirepb.PIMPullReq{RequestId: 2, Conversation: long})
	for want := range uint64(2) {
		if e := expect[*wirepb.PIMError](p); e.Kind != wirepb.ErrorKind_ERROR_KIND_INVALID || e.RequestId != want+1 {
			t.Errorf("answered with %v", e)
		}
	}
}
