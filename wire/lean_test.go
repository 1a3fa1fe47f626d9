package wire

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// ReadPushAck accepts no more than the decoder does, and reads the same out of it.
func FuzzReadPushAck(f *testing.F) {
	for _, v := range vectorFrames() {
		if frame := Append(nil, v.message); Type(frame[0]) == TypePushAck {
			f.Add(frame[1:])
		}
	}
	f.Add([]byte{8, 1, 0x12, 0, 0x12, 2, 16, 1, 0x98, 0x75, 1, 8, 2}) // an empty ack, an unknown field, the serial twice
	f.Add([]byte{0x0a, 0})
	f.Add([]byte{0x12, 2, 8, 1})
	f.Add([]byte{0x1a, 5, 0x0a, 1, 'x', 16, 3, 0x12, 2, 16, 1, 0x1a, 2, 8, 1})
	f.Add([]byte{0x18, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		var got []*wirepb.Ack
		var fronts []*wirepb.Front
		serial, err := ReadPushAck(body, func(conversation []byte, seq uint64) {
			got = append(got, &wirepb.Ack{Conversation: string(conversation), Seq: seq})
		}, func(conversation []byte, front uint64) {
			fronts = append(fronts, &wirepb.Front{Conversation: string(conversation), Front: front})
		})
		if err != nil {
			if pim.KindOf(err) != pim.KindInvalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		var want wirepb.PIMPushAck
		if err := want.UnmarshalVT(body); err != nil {
			t.Fatalf("taken, and the decoder says %v", err)
		}
		if serial != want.Serial || len(got) != len(want.Acks) || len(fronts) != len(want.Fronts) {
			t.Fatalf("serial %d, %d acks and %d fronts, want %d, %d and %d", serial, len(got), len(fronts), want.Serial, len(want.Acks), len(want.Fronts))
		}
		for i, x := range want.Fronts {
			if fronts[i].Conversation != x.Conversation || fronts[i].Front != x.Front {
				t.Fatalf("front %d is %v, want %v", i, fronts[i], x)
			}
		}
		for i, a := range want.Acks {
			if got[i].Conversation != a.Conversation || got[i].Seq != a.Seq {
				t.Fatalf("ack %d is %v, want %v", i, got[i], a)
			}
		}
	})
}

// ReadPushAck accepts every vector, and unknown fields of every wire type, as the
// decoder does.
func TestReadPushAckRefusesNoVector(t *testing.T) {
	body := []byte{8, 9, 0x12, 5, 0x0a, 1, 'x', 16, 3, 0x9b, 0x06, 8, 1, 0x9c, 0x06, 0x9d, 6, 1, 2, 3, 4} // unknown fields: a group and a fixed32
	var want wirepb.PIMPushAck
	if err := want.UnmarshalVT(body); err != nil {
		t.Fatal(err)
	}
	if serial, err := ReadPushAck(body, nobody, nobody); serial != 9 || err != nil {
		t.Errorf("serial %d, %v", serial, err)
	}
	for _, v := range vectorFrames() {
		if frame := Append(nil, v.message); Type(frame[0]) == TypePushAck {
			if _, err := ReadPushAck(frame[1:], nobody, nobody); err != nil {
				t.Errorf("%s: %v", v.name, err)
			}
		}
	}
}

func nobody([]byte, uint64) {}

// Many mentions above the limit are counted, not decoded.
func TestReadSendReqCountsMentions(t *testing.T) {
	const most = 100
	for n, decoded := range map[int]int{0: 0, pim.MaxMentions: pim.MaxMentions, pim.MaxMentions + 1: pim.MaxMentions + 1, 100_000: 0} {
		sent := wirepb.PIMSendReq{Conversation: "g:x", Mentions: make([]string, n), Payload: []byte("x")}
		body, err := sent.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		var got wirepb.PIMSendReq
		_, mentions, err := ReadSendReq(body, &got, most)
		if err != nil || mentions != n || len(got.Mentions) != decoded || got.Conversation != "g:x" || string(got.Payload) != "x" {
			t.Errorf("%d mentions: counted %d, decoded %d of %q, %v", n, mentions, len(got.Mentions), got.Conversation, err)
		}
	}
}

// Members above the limit are counted, not decoded; all else is as it was sent.
func TestReadSendReqCountsMembers(t *testing.T) {
	const most = 100
	for n, decoded := range map[int]int{0: 0, 1: 1, most: most, most + 1: 0, 100_000: 0} {
		sent := wirepb.PIMSendReq{Conversation: "g:x", Members: make([]string, n), Payload: []byte("x"), Attempt: 3}
		body, err := sent.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		body = protowire.AppendVarint(protowire.AppendTag(body, 99, protowire.VarintType), 1)
		var got wirepb.PIMSendReq
		members, _, err := ReadSendReq(body, &got, most)
		if err != nil || members != n || len(got.Members) != decoded || got.Conversation != "g:x" || string(got.Payload) != "x" || got.Attempt != 3 {
			t.Errorf("%d members: counted %d, decoded %d of %q, %v", n, members, len(got.Members), got.Conversation, err)
		}
		if _, _, err := ReadSendReq(append(body, 0x0a), new(wirepb.PIMSendReq), most); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%d members and half a field: %v", n, err)
		}
	}
}
