package wire

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/proto"
)

// Any bytes are refused with a typed error or mean the same when they are
// encoded again.
func FuzzDecode(f *testing.F) {
	for _, v := range vectorFrames() {
		f.Add(Append(nil, v.message))
	}
	f.Add([]byte{99, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		typ, m, err := Decode(frame)
		if err != nil {
			if pim.KindOf(err) != pim.KindInvalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if m == nil {
			return
		}
		again, back, err := Decode(Append(nil, m))
		if err != nil || again != typ || !proto.Equal(back.(proto.Message), m.(proto.Message)) {
			t.Fatalf("%v came back as %v, %v", m, back, err)
		}
	})
}

func FuzzCutTCP(f *testing.F) {
	f.Add(AppendTCP(nil, []byte{1, 2, 3}))
	f.Add([]byte{0, 4, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, buf []byte) {
		for {
			frame, rest, need, err := CutTCP(buf, pim.MaxFrame)
			if err != nil {
				return
			}
			if need > 0 {
				if need <= len(buf) || need > pim.MaxFrame+TCPHeader {
					t.Fatalf("needs %d bytes, has %d", need, len(buf))
				}
				return
			}
			if len(frame) == 0 || len(rest) >= len(buf) {
				t.Fatalf("cut %d bytes off %d", len(frame), len(buf))
			}
			buf = rest
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(AppendEntry(nil, &pim.Entry{Seq: 9, Anchor: 4, Kind: pim.EntryMessage, Sender: "ann", Payload: []byte("hi")}))
	f.Add(AppendEntry(nil, &pim.Entry{Seq: 1, Anchor: 1, Kind: pim.EntryCreate, Members: []pim.UserID{"a", "b"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEntry("g:x", data)
		if err != nil {
			return
		}
		back, err := ParseEntry("g:x", AppendEntry(nil, &e))
		if err != nil {
			t.Fatal(err)
		}
		same(t, &back, &e)
	})
}

var _ Message = (*wirepb.Hello)(nil)
