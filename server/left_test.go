package server_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// raw is a device that speaks the protocol by hand.
type raw struct {
	t      *testing.T
	c      net.Conn
	serial uint64
}

func (n *node) raw(user, device string, serial uint64) *raw {
	n.t.Helper()
	c, err := net.Dial("tcp", n.TCPAddr())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	r := &raw{n.t, c, serial}
	token, err := n.keys.Issue(pim.UserID(user), time.Hour, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	r.sends(&wirepb.Hello{Version: wire.Version, Token: token, Device: device, AckSerial: serial})
	if _, ok := r.reads().(*wirepb.Welcome); !ok {
		n.t.Fatalf("%s is not let in", user)
	}
	return r
}

func (r *raw) sends(m wire.Message) {
	r.t.Helper()
	if _, err := r.c.Write(wire.AppendTCP(nil, wire.Append(nil, m))); err != nil {
		r.t.Fatal(err)
	}
}

// reads returns the next frame that is no push.
func (r *raw) reads() wire.Message {
	r.t.Helper()
	for {
		var size [4]byte
		if _, err := io.ReadFull(r.c, size[:]); err != nil {
			r.t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(r.c, body); err != nil {
			r.t.Fatal(err)
		}
		_, m, err := wire.Decode(body)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, push := m.(*wirepb.PIMPush); !push {
			return m
		}
	}
}

// syncs reads the list, acknowledges all of it, and returns how many groups it names, and how many of them are left.
func (r *raw) syncs(full bool) (groups, left int) {
	r.t.Helper()
	r.sends(&wirepb.PIMSyncReq{RequestId: 1, Full: full, Limit: 1000, Fronts: true})
	list, ok := r.reads().(*wirepb.PIMSyncResp)
	if !ok || list.NextAfter != "" {
		r.t.Fatalf("%v", list)
	}
	ack := &wirepb.PIMPushAck{}
	for _, s := range list.Conversations {
		if pim.ConversationID(s.Conversation).IsGroup() {
			groups++
		}
		if s.Left {
			left++
		}
		ack.Acks = append(ack.Acks, &wirepb.Ack{Conversation: s.Conversation, Seq: s.Newest})
	}
	if len(ack.Acks) > 0 {
		r.serial++
		ack.Serial = r.serial
		r.sends(ack)
	}
	return groups, left
}

// Eve puts Bob into groups, which she then removes him from, or which he leaves. His phone, which is connected, and his laptop,
// which was not, are told; then a new device is told of none of them, and the list is empty. What he could read he still can.
func TestLeftGroups(t *testing.T) {
	const groups = 30
	n := start(t, config(t), server.Options{})
	eve := n.connect("eve", "1", "tcp")
	var all []pim.ConversationID
	for range groups {
		g := eve.do(eve.CreateGroup(t.Context(), []pim.UserID{"bob"})).Conversation
		eve.says(g, "buy this")
		all = append(all, g)
	}
	phone, laptop := n.raw("bob", "phone", 0), n.raw("bob", "laptop", 0)
	for _, d := range []*raw{phone, laptop} {
		if n, left := d.syncs(true); n != groups || left != 0 {
			t.Fatalf("Bob is in %d groups, and has left %d", n, left)
		}
	}
	laptop.c.Close()
	for i, g := range all {
		if i%2 == 0 {
			eve.do(eve.Leave(t.Context(), g, "bob"))
		} else {
			id := pim.NewClientMessageID(time.Now())
			phone.sends(&wirepb.PIMSendReq{
				Conversation: string(g), ClientMessageId: id[:], LocalMs: time.Now().UnixMilli(), Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_LEAVE,
			})
			if m, ok := phone.reads().(*wirepb.PIMSendAck); !ok {
				t.Fatalf("to leave is answered with %v", m)
			}
		}
	}
	if n, left := phone.syncs(false); n != groups || left != groups {
		t.Fatalf("the phone is told of %d groups, of which %d are left", n, left)
	}
	laptop = n.raw("bob", "laptop", laptop.serial)
	if n, left := laptop.syncs(false); n != groups || left != groups {
		t.Fatalf("the laptop is told of %d groups, of which %d are left", n, left)
	}
	tablet := n.raw("bob", "tablet", 0)
	patience := time.Now().Add(5 * time.Minute)
	for {
		phone.syncs(false) // an acknowledgement takes up to a second, and what a sync drops it drops after its answer
		laptop.syncs(false)
		if n, _ := tablet.syncs(true); n == 0 {
			break
		}
		if time.Now().After(patience) {
			t.Fatal("the groups stay in the list")
		}
		time.Sleep(50 * time.Millisecond)
	}
	tablet.sends(&wirepb.PIMPullReq{RequestId: 2, Conversation: string(all[0])})
	if page, ok := tablet.reads().(*wirepb.PIMPullResp); !ok || len(page.Entries) != 3 || page.Newest != 3 {
		t.Errorf("a pull of a group that was left: %v", page)
	}
}
