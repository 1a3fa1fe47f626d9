package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// types are all frame types.
var types = []Type{
	TypeHello, TypeWelcome, TypeSendReq, TypeSendAck, TypePush, TypePushAck, TypeSyncReq, TypeSyncResp, TypePullReq,
	TypePullResp, TypeTimeReq, TypeTimeResp, TypePing, TypePong, TypeGoAway, TypeError,
	TypeReceiptReq, TypeReceiptResp, TypeLook, TypeReceipt, TypeTyping, TypePresence, TypeMembersReq, TypeMembersResp,
	TypeDevicesReq, TypeDevicesResp,
}

func TestTypesAgree(t *testing.T) {
	for _, typ := range types {
		m := newMessage(typ)
		if m == nil {
			t.Fatalf("%s has no body", typ)
		}
		if got := TypeOf(m); got != typ {
			t.Errorf("body of %s is of type %s", typ, got)
		}
		name := string(m.(proto.Message).ProtoReflect().Descriptor().Name())
		if typ.String() != name {
			t.Errorf("type %d is called %s, its body %s", typ, typ, name)
		}
	}
	named := 0
	for _, name := range typeNames[1:] {
		if name != "" {
			named++
		}
	}
	if len(types) != named {
		t.Errorf("%d types are tested, %d have names", len(types), named)
	}
	if TypeOf(new(wirepb.Entry)) != 0 {
		t.Error("an entry is no frame")
	}
}

func TestUnknownIsSurvivable(t *testing.T) {
	typ, m, err := Decode([]byte{99, 1, 2, 3})
	if typ != 99 || m != nil || err != nil {
		t.Errorf("an unknown frame: %s, %v, %v", typ, m, err)
	}
	frame := Append(nil, &wirepb.PIMPing{Nonce: 7})
	frame = protowire.AppendTag(frame, 100, protowire.BytesType)
	frame = protowire.AppendString(frame, "of a later version")
	_, m, err = Decode(frame)
	if err != nil || m.(*wirepb.PIMPing).Nonce != 7 {
		t.Errorf("an unknown field: %v, %v", m, err)
	}
	if _, _, err := Decode(nil); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("an empty frame: %v", err)
	}
	if _, _, err := Decode([]byte{byte(TypePing), 0xff}); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a broken body: %v", err)
	}
}

// However a stream is split, the same frames come out of it.
func TestCutTCPAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frames := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 3000), 1, 6).Draw(t, "frames")
		var stream, buf []byte
		for _, f := range frames {
			stream = AppendTCP(stream, f)
		}
		var got [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "read")
			buf, stream = append(buf, stream[:n]...), stream[n:]
			for {
				f, rest, need, err := CutTCP(buf, pim.MaxFrame)
				if err != nil {
					t.Fatal(err)
				}
				if need > 0 {
					if need <= len(buf) {
						t.Fatalf("needs %d bytes and has %d", need, len(buf))
					}
					break
				}
				got, buf = append(got, f), rest
			}
		}
		if len(got) != len(frames) {
			t.Fatalf("%d frames, want %d", len(got), len(frames))
		}
		for i := range got {
			if !bytes.Equal(got[i], frames[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func TestCutTCPRefuses(t *testing.T) {
	if _, _, _, err := CutTCP([]byte{0, 0, 0, 0}, 10); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("an empty frame: %v", err)
	}
	if _, _, _, err := CutTCP([]byte{0, 0, 0, 11}, 10); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("a frame above the limit: %v", err)
	}
	if _, _, _, err := CutTCP([]byte{255, 255, 255, 255}, pim.MaxFrame); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("the largest length: %v", err)
	}
}

func entries() *rapid.Generator[pim.Entry] {
	return rapid.Custom(func(t *rapid.T) pim.Entry {
		e := pim.Entry{
			Conversation: "g:x", Seq: pim.Seq(rapid.Uint64Min(1).Draw(t, "seq")), Count: rapid.Uint64().Draw(t, "count"),
			Kind: pim.EntryKind(rapid.IntRange(1, 4).Draw(t, "kind")), Sender: "ann", Device: "phone",
			Local: pim.Millis(rapid.Int64().Draw(t, "local")), Server: pim.Millis(rapid.Int64().Draw(t, "server")),
			Payload: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "payload"),
		}
		e.Anchor = e.Seq
		if rapid.Bool().Draw(t, "late") {
			e.Anchor = pim.Seq(rapid.Uint64Range(1, uint64(e.Seq)).Draw(t, "anchor"))
		}
		copy(e.ClientID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		for _, u := range rapid.SliceOfN(rapid.StringMatching("[a-z]{1,9}"), 0, 4).Draw(t, "members") {
			e.Members = append(e.Members, pim.UserID(u))
		}
		return e
	})
}

// An entry comes back as it was, its bytes are what any protobuf library reads,
// and it is the same entry inside a push and a pull.
func TestEntriesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := entries().Draw(t, "entry")
		data := AppendEntry(nil, &e)
		back, err := ParseEntry("g:x", data)
		if err != nil {
			t.Fatal(err)
		}
		same(t, &back, &e)
		var generic wirepb.Entry
		if err := proto.Unmarshal(data, &generic); err != nil {
			t.Fatal(err)
		}
		_, push, err := Decode(AppendPush(nil, "g:x", [][]byte{data, data}))
		if err != nil {
			t.Fatal(err)
		}
		resp := &wirepb.PIMPullResp{RequestId: 3, Conversation: "g:x", From: 1, To: 9, Newest: 10, Done: true}
		_, pull, err := Decode(AppendPullResp(nil, resp, [][]byte{data}, nil))
		if err != nil {
			t.Fatal(err)
		}
		got := pull.(*wirepb.PIMPullResp)
		all := append(push.(*wirepb.PIMPush).Entries, got.Entries...)
		if len(all) != 3 || push.(*wirepb.PIMPush).Conversation != "g:x" {
			t.Fatalf("%d entries came out", len(all))
		}
		for _, m := range all {
			if !proto.Equal(m, &generic) {
				t.Fatalf("%v, want %v", m, &generic)
			}
		}
		if got.Entries = nil; !proto.Equal(got, resp) {
			t.Fatalf("%v, want %v", got, resp)
		}
	})
}

func same(t interface{ Fatalf(string, ...any) }, got, want *pim.Entry) {
	a, b := AppendEntry(nil, got), AppendEntry(nil, want)
	if !bytes.Equal(a, b) || got.Conversation != want.Conversation || got.Anchor != want.Anchor {
		t.Fatalf("%+v came back as %+v", want, got)
	}
}

func TestParseEntryRefuses(t *testing.T) {
	for name, data := range map[string][]byte{"no seq": {}, "garbage": {0xff, 0xff}} {
		if _, err := ParseEntry("g:x", data); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Kinds of errors and entries are the same on the wire as in package pim.
func TestKindsAgree(t *testing.T) {
	for n, name := range wirepb.ErrorKind_name {
		if want := "ERROR_KIND_" + strings.ToUpper(pim.Kind(n).String()); name != want {
			t.Errorf("kind %d is called %s on the wire, want %s", n, name, want)
		}
	}
	if next := pim.Kind(len(wirepb.ErrorKind_name)); !strings.HasPrefix(next.String(), "kind_") {
		t.Errorf("kind %s is not on the wire", next)
	}
	for n, name := range wirepb.EntryKind_name {
		if want := "ENTRY_KIND_" + strings.ToUpper(pim.EntryKind(n).String()); n != 0 && name != want {
			t.Errorf("entry kind %d is called %s on the wire, want %s", n, name, want)
		}
	}
}

func TestErrorsCross(t *testing.T) {
	err := &pim.Error{Kind: pim.KindOverloaded, Text: "full", RetryAfter: 1500 * time.Millisecond}
	m := ErrorFrame(err)
	if !m.Retryable || m.RetryAfterMs != 1500 {
		t.Errorf("sent as %v", m)
	}
	if got := ErrorOf(m); got.Kind != err.Kind || got.Text != err.Text || got.RetryAfter != err.RetryAfter {
		t.Errorf("%+v came back as %+v", err, got)
	}
	if m := ErrorFrame(bytes.ErrTooLarge); strings.Contains(m.Text, "bytes") {
		t.Errorf("the text of a foreign error leaves the server: %v", m)
	}
}

// Kinds of later versions, and numbers that cannot be kinds, do not turn into other
// kinds.
func TestKindsOutOfRange(t *testing.T) {
	for _, n := range []int32{-255, -1, 255, 257, 1 << 20} {
		e, err := EntryOf("g:x", &wirepb.Entry{Seq: 1, ClientMessageId: make([]byte, 16), Kind: wirepb.EntryKind(n)})
		if err != nil || e.Kind.String() != "unknown" {
			t.Errorf("entry kind %d is taken for %s, %v", n, e.Kind, err)
		}
		if back, err := ParseEntry("g:x", AppendEntry(nil, &e)); err != nil || back.Kind != e.Kind {
			t.Errorf("entry kind %d came back as %d, %v", n, back.Kind, err)
		}
		if c, err := DecodeCommand(AppendCommand(nil, &pim.Command{Kind: pim.CommandKind(uint32(n))})); err != nil || c.Kind.Known() || int32(c.Kind) != n {
			t.Errorf("command kind %d came back as %d, %v", n, c.Kind, err)
		}
		for retryable, want := range map[bool]pim.Kind{true: pim.KindUnavailable, false: pim.KindInvalid} {
			if got := ErrorOf(&wirepb.PIMError{Kind: wirepb.ErrorKind(n), Retryable: retryable}).Kind; got != want {
				t.Errorf("error kind %d, retryable %v, is taken for %s", n, retryable, got)
			}
		}
	}
	wrapped := fmt.Errorf("while sending: %w", &pim.Error{Kind: pim.KindOverloaded, Text: "full", RetryAfter: time.Second})
	if m := ErrorFrame(wrapped); m.Text != "full" || m.RetryAfterMs != 1000 {
		t.Errorf("a wrapped error is sent as %v", m)
	}
}

func TestCodes(t *testing.T) {
	for code := range codeNames {
		if code < 4000 || code >= 4200 {
			t.Errorf("%s is %d", code, code)
		}
		if code.Reconnect() != (code < 4100) {
			t.Errorf("%s: reconnect %v", code, code.Reconnect())
		}
	}
}

func BenchmarkAppendEntry(b *testing.B) {
	e := pim.Entry{Seq: 1000, Anchor: 1000, Sender: "alice", Device: "phone", Payload: make([]byte, 100), Local: 1 << 40, Server: 1 << 40}
	var buf []byte
	b.ReportAllocs()
	for range b.N {
		buf = AppendEntry(buf[:0], &e)
	}
}
