package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

// anyEntry draws an encoded entry as a writer stores it, and what it decodes to.
func anyEntry(t *rapid.T) ([]byte, *wirepb.Entry) {
	number := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64())
	text := rapid.SampledFrom([]string{"", "a", "ann", strings.Repeat("ü", 30)})
	e := pim.Entry{
		Seq: pim.Seq(rapid.Uint64().Draw(t, "seq")), Anchor: pim.Seq(rapid.Uint64().Draw(t, "anchor")), Count: rapid.Uint64().Draw(t, "count"),
		Kind: pim.EntryKind(rapid.IntRange(0, 9).Draw(t, "kind")), Sender: pim.UserID(text.Draw(t, "sender")), Device: pim.DeviceID(text.Draw(t, "device")),
		Local: pim.Millis(number.Draw(t, "local")), Server: pim.Millis(number.Draw(t, "server")), Ahead: pim.Millis(number.Draw(t, "ahead")),
		Order: pim.Millis(number.Draw(t, "order")),
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 5}).Draw(t, "members") {
		e.Members = append(e.Members, "bob")
	}
	size := rapid.SampledFrom([]int{0, 1, 20, 63, 64, 65, 200, 256, 257, 400}).Draw(t, "payload")
	if e.Payload = []byte(strings.Repeat("王", size)); rapid.Bool().Draw(t, "bytes") {
		e.Payload = bytes.Repeat([]byte{0xff}, size)
	}
	if rapid.Bool().Draw(t, "later") {
		e.Unknown = appendBytes(appendUint(nil, 14, 7), 100, []byte("of a later version"))
	}
	data := AppendEntry(nil, &e)
	m := new(wirepb.Entry)
	if err := m.UnmarshalVT(data); err != nil {
		t.Fatal(err)
	}
	return data, m
}

// What is made of an entry's bytes is what decoding it, changing the fields and encoding it gives.
func TestCutsOfEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, m := anyEntry(t)
		if err := CheckEntry(data); err != nil {
			t.Fatal(err)
		}
		same := func(what string, got []byte, cut bool, err error, want *wirepb.Entry, wantCut bool) {
			t.Helper()
			bytesWanted, wantErr := want.MarshalVT()
			if err != nil || wantErr != nil {
				t.Fatalf("%s: %v, %v", what, err, wantErr)
			}
			if !bytes.Equal(got, append([]byte("head"), bytesWanted...)) || cut != wantCut {
				t.Fatalf("%s: %x, cut %v, want %x, %v", what, got[4:], cut, bytesWanted, wantCut)
			}
		}
		brief, wantCut := BriefEntry(m)
		got, cut, err := AppendBrief([]byte("head"), data)
		same("brief", got, cut, err, brief, wantCut)

		keep := rapid.SampledFrom([]int{64, 256}).Draw(t, "keep")
		wantCut = len(m.Payload) > keep
		m.Members, m.Payload = nil, Cut(m.Payload, keep)
		got, cut, err = AppendCut([]byte("head"), data, keep)
		same("cut", got, cut, err, m, wantCut)
	})
}

// A frame of Summaries has the bytes that encoding the message gives.
func TestSyncRespOfBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.SampledFrom([]uint64{0, 1, 127, 128, 1 << 40, math.MaxUint64})
		var bare []*wirepb.Summary
		var lasts [][]byte
		want := &wirepb.PIMSyncResp{RequestId: number.Draw(t, "id"), NextAfter: rapid.SampledFrom([]string{"", "g:x"}).Draw(t, "next")}
		for range rapid.IntRange(0, 5).Draw(t, "summaries") {
			s := new(wirepb.Summary)
			m := s.ProtoReflect()
			for i, fields := 0, m.Descriptor().Fields(); i < fields.Len(); i++ { // all that there are
				f := fields.Get(i)
				switch name := string(f.Name()); f.Kind() {
				case protoreflect.Uint64Kind:
					m.Set(f, protoreflect.ValueOfUint64(number.Draw(t, name)))
				case protoreflect.BoolKind:
					m.Set(f, protoreflect.ValueOfBool(rapid.Bool().Draw(t, name)))
				case protoreflect.StringKind:
					m.Set(f, protoreflect.ValueOfString(rapid.SampledFrom([]string{"", "g:x", "g:" + strings.Repeat("y", 200)}).Draw(t, name)))
				}
			}
			full := proto.Clone(s).(*wirepb.Summary)
			var last []byte
			switch rapid.IntRange(0, 2).Draw(t, "last") {
			case 0:
				last, full.Last = anyEntry(t)
			case 1: // an entry without a field is not none
				last, full.Last = []byte{}, new(wirepb.Entry)
			}
			bare, lasts, want.Conversations = append(bare, s), append(lasts, last), append(want.Conversations, full)
		}
		for range rapid.IntRange(0, 3).Draw(t, "fronts") {
			want.Fronts = append(want.Fronts, &wirepb.Front{Conversation: rapid.SampledFrom([]string{"", "g:x"}).Draw(t, "trimmed"), Front: number.Draw(t, "front")})
		}
		got := AppendSyncResp([]byte("head"), &wirepb.PIMSyncResp{RequestId: want.RequestId, NextAfter: want.NextAfter, Recent: want.Recent, Fronts: want.Fronts}, len(bare), func(i int) (*wirepb.Summary, []byte) {
			return bare[i], lasts[i]
		})
		if wanted := Append([]byte("head"), want); !bytes.Equal(got, wanted) {
			t.Fatalf("%x\nwant\n%x", got, wanted)
		}
	})
}

// An entry that cannot be decoded is corrupt, whatever is to be made of it.
func TestCorruptEntries(t *testing.T) {
	for name, data := range map[string][]byte{
		"cut off":            AppendEntry(nil, &pim.Entry{Seq: 1, Payload: []byte("hello")})[:10],
		"a number for text":  {entrySender<<3 | byte(protowire.VarintType), 1},
		"text for a number":  {entryKind<<3 | byte(protowire.BytesType), 1, 'x'},
		"no field":           {0xff},
		"the end of a group": {14<<3 | byte(protowire.EndGroupType)},
	} {
		if err := new(wirepb.Entry).UnmarshalVT(data); err == nil {
			t.Errorf("%s can be decoded", name)
		}
		_, _, cut := AppendCut(nil, data, 64)
		_, _, brief := AppendBrief(nil, data)
		for _, err := range []error{CheckEntry(data), cut, brief} {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
