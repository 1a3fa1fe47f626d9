package wire

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// fullEntry returns an entry with all fields set but Ahead, Order and Unknown.
func fullEntry() pim.Entry {
	return pim.Entry{
		Conversation: "g:x", Seq: 9, Anchor: 4, Count: 7, Kind: pim.EntryJoin, Sender: "ann", Device: "phone",
		ClientID: pim.ClientMessageID{1, 2, 3}, Local: 1700000000123, Server: 1700000000150,
		Members: []pim.UserID{"bob", "eve"}, Payload: []byte("hi"),
	}
}

// The fields are compared one by one: a comparison of encodings would not notice a
// field that neither AppendEntry nor ParseEntry knows.
func TestEntryKeepsEveryField(t *testing.T) {
	e := fullEntry()
	got, err := ParseEntry(e.Conversation, AppendEntry(nil, &e))
	if err != nil {
		t.Fatal(err)
	}
	if got.Conversation != e.Conversation || got.Seq != e.Seq || got.Anchor != e.Anchor || got.Count != e.Count ||
		got.Kind != e.Kind || got.Sender != e.Sender || got.Device != e.Device || got.ClientID != e.ClientID ||
		got.Local != e.Local || got.Server != e.Server || !slices.Equal(got.Members, e.Members) ||
		!bytes.Equal(got.Payload, e.Payload) {
		t.Errorf("%+v came back as %+v", e, got)
	}
}

// On the wire an anchor of 0 means seq. An entry in its usual place is encoded with
// that; one that carries its seq as its anchor means the same.
func TestAnchorOfItsOwn(t *testing.T) {
	e := fullEntry()
	e.Anchor = e.Seq
	short := AppendEntry(nil, &e)
	var m wirepb.Entry
	if err := m.UnmarshalVT(short); err != nil || m.Anchor != 0 {
		t.Errorf("anchor %d, %v", m.Anchor, err)
	}
	long := protowire.AppendVarint(protowire.AppendTag(slices.Clone(short), 2, protowire.VarintType), uint64(e.Seq))
	for _, data := range [][]byte{short, long} {
		if got, err := ParseEntry("g:x", data); err != nil || got.Anchor != e.Seq {
			t.Errorf("anchor %d, %v", got.Anchor, err)
		}
	}
}

// Writers encode many entries into one buffer, behind one another.
func TestAppendEntryAppends(t *testing.T) {
	e := fullEntry()
	alone := AppendEntry(nil, &e)
	for _, room := range []int{0, 3, 1000} {
		head := append(make([]byte, 0, 4+room), "head"...)
		if got := AppendEntry(head, &e); !bytes.Equal(got, append([]byte("head"), alone...)) {
			t.Errorf("with room for %d bytes: %x", room, got)
		}
	}
}

// An EntryReader returns what ParseEntry does, whatever it has read before. All but the payload
// outlives the next Read.
func TestEntryReader(t *testing.T) {
	full, edit, plain := fullEntry(), fullEntry(), fullEntry()
	full.Unknown = protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "later")
	edit.Kind, edit.Refers, edit.Payload = pim.EntryEdit, 3, []byte("a longer payload")
	plain.Members, plain.Payload, plain.Sender, plain.ClientID = nil, nil, "bob", pim.ClientMessageID{7}
	var r EntryReader
	var got, want []pim.Entry
	for _, e := range []*pim.Entry{&full, &plain, &edit, nil, &plain, &full} {
		if e == nil {
			if _, err := r.Read("g:x", []byte{0xff}); err == nil {
				t.Error("no error")
			}
			continue
		}
		data := AppendEntry(nil, e)
		a, err := r.Read(e.Conversation, data)
		if err != nil {
			t.Fatal(err)
		}
		clear(data)
		a.Payload = bytes.Clone(a.Payload)
		got, want = append(got, a), append(want, *e)
	}
	for i := range got {
		same(t, &got[i], &want[i])
	}
	data := AppendEntry(nil, &edit)
	if n := testing.AllocsPerRun(100, func() { r.Read("g:x", data) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
	data = AppendEntry(nil, &plain)
	if n := testing.AllocsPerRun(100, func() { r.Read("g:x", data) }); n > 2 {
		t.Errorf("%v allocations, want those of the sender and the device", n)
	}
}

// What ParseEntry returns outlives the buffer it was read from.
func TestParseEntrySharesNothing(t *testing.T) {
	e := fullEntry()
	data := AppendEntry(nil, &e)
	got, err := ParseEntry(e.Conversation, data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	same(t, &got, &e)
}

func TestEntryNeedsSeqAndID(t *testing.T) {
	id := make([]byte, 16)
	for _, test := range []struct {
		name  string
		entry *wirepb.Entry
		want  bool
	}{
		{"both", &wirepb.Entry{Seq: 1, ClientMessageId: id}, true},
		{"the last seq", &wirepb.Entry{Seq: math.MaxUint64, ClientMessageId: id}, true},
		{"no seq", &wirepb.Entry{ClientMessageId: id}, false},
		{"no ID", &wirepb.Entry{Seq: 1}, false},
		{"ID too short", &wirepb.Entry{Seq: 1, ClientMessageId: id[:15]}, false},
		{"ID too long", &wirepb.Entry{Seq: 1, ClientMessageId: make([]byte, 17)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := EntryOf("g:x", test.entry)
			if (err == nil) != test.want || err != nil && pim.KindOf(err) != pim.KindInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientID(t *testing.T) {
	for n, want := range map[int]bool{0: false, 15: false, 16: true, 17: false} {
		b := bytes.Repeat([]byte{7}, n)
		id, ok := ClientID(b)
		if ok != want || ok && !bytes.Equal(id[:], b) {
			t.Errorf("%d bytes: %s, %v", n, id, ok)
		}
	}
}

// EntryOverhead bounds what a frame adds to an entry, also at the sizes where the
// length takes one byte more. The greatest entry fits into a frame.
func TestEntryOverhead(t *testing.T) {
	for _, n := range []int{0, 127, 128, 1<<14 - 1, 1 << 14, pim.MaxFrame} {
		if got := len(AppendPushEntry(nil, make([]byte, n))) - n; got > EntryOverhead {
			t.Errorf("an entry of %d bytes costs %d more", n, got)
		}
	}
	long := strings.Repeat("u", pim.MaxIDBytes)
	e := pim.Entry{
		Seq: math.MaxUint64, Anchor: 1 << 63, Count: math.MaxUint64, Kind: pim.EntryCreate, Sender: pim.UserID(long),
		Device: pim.DeviceID(long), Local: -1, Server: -1, Payload: make([]byte, pim.MaxPayload),
	}
	for range pim.MaxGroupMembers {
		e.Members = append(e.Members, pim.UserID(long))
	}
	c := pim.ConversationID("g:" + long)
	data := AppendEntry(nil, &e)
	resp := &wirepb.PIMPullResp{
		RequestId: math.MaxUint64, Conversation: string(c), From: math.MaxUint64, To: math.MaxUint64,
		Newest: math.MaxUint64, Done: true,
	}
	if n := len(AppendPullResp(nil, resp, [][]byte{data}, nil)); n > pim.MaxFrame {
		t.Errorf("the greatest entry needs a frame of %d bytes, %d are allowed", n, pim.MaxFrame)
	}
	if n := len(data) + EntryOverhead; n > FrameRoom {
		t.Errorf("the greatest entry takes %d bytes, and a frame has room for %d", n, FrameRoom)
	}
	// What lies beside the entries and Summaries fits into what FrameRoom leaves.
	for _, rest := range []Message{resp, &wirepb.PIMPush{Conversation: string(c)}, &wirepb.PIMSyncResp{RequestId: math.MaxUint64, NextAfter: string(c)}} {
		if n := len(Append(nil, rest)); n > pim.MaxFrame-FrameRoom {
			t.Errorf("a frame without entries has %d bytes", n)
		}
	}
}

// Fit takes as many as go into one frame, and one at least; walking on with the rest takes all.
func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, FrameRoom+10)), 1, 100).Draw(t, "sizes")
		for len(sizes) > 0 {
			n, room := Fit(len(sizes), func(i int) int { return sizes[i] })
			sum := 0
			for _, size := range sizes[:n] {
				sum += size + EntryOverhead
			}
			if n == 0 || room != sum || n > 1 && sum > FrameRoom {
				t.Fatalf("%d of %v, which take %d bytes, room for %d", n, sizes, sum, room)
			}
			if n < len(sizes) && sum+sizes[n]+EntryOverhead <= FrameRoom {
				t.Fatalf("%d of %v, and one more fits", n, sizes)
			}
			sizes = sizes[n:]
		}
		if n, room := Fit(0, nil); n != 0 || room != 0 {
			t.Fatalf("of nothing %d fit, with %d bytes", n, room)
		}
	})
}
