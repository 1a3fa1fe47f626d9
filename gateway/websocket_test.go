package gateway

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

func clientFrame(op ws.OpCode, fin bool, payload []byte) []byte {
	var b bytes.Buffer
	f := ws.NewFrame(op, fin, bytes.Clone(payload))
	if err := ws.WriteFrame(&b, ws.MaskFrameInPlaceWith(f, [4]byte{1, 2, 3, 4})); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// However the bytes of a stream are split into reads, the same frames come out.
func TestCutWebSocketAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payloads := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 70_000), 1, 4).Draw(t, "payloads")
		var stream []byte
		for _, p := range payloads {
			stream = append(stream, clientFrame(ws.OpBinary, true, p)...)
		}
		var buf []byte
		var got [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "read")
			buf, stream = append(buf, stream[:n]...), stream[n:]
			for {
				f, rest, need, err := cutWebSocket(buf, pim.MaxFrame)
				if err != nil {
					t.Fatal(err)
				}
				if need > 0 {
					if need <= len(buf) {
						t.Fatalf("needs %d bytes and has %d", need, len(buf))
					}
					break
				}
				got = append(got, bytes.Clone(f.payload))
				buf = bytes.Clone(rest)
			}
		}
		if len(got) != len(payloads) {
			t.Fatalf("%d frames, want %d", len(got), len(payloads))
		}
		for i := range got {
			if !bytes.Equal(got[i], payloads[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func TestCutWebSocketRefuses(t *testing.T) {
	masked := clientFrame(ws.OpBinary, true, []byte("hello"))
	reserved := bytes.Clone(masked)
	reserved[0] |= 0x40
	unmasked := []byte{0x82, 1, 'x'}
	longPing := clientFrame(ws.OpPing, true, make([]byte, 126))
	splitPing := clientFrame(ws.OpPing, false, []byte("x"))
	for _, test := range []struct {
		name  string
		frame []byte
		want  pim.Kind
	}{
		{"not masked", unmasked, pim.KindInvalid},
		{"reserved bits", reserved, pim.KindInvalid},
		{"control frame too long", longPing, pim.KindInvalid},
		{"control frame fragmented", splitPing, pim.KindInvalid},
		{"above the limit", clientFrame(ws.OpBinary, true, make([]byte, 100)), pim.KindTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, _, err := cutWebSocket(test.frame, 99)
			if got := pim.KindOf(err); got != test.want {
				t.Errorf("refused with %v (%v), want %v", got, err, test.want)
			}
		})
	}
}

func TestJoinFragments(t *testing.T) {
	var message []byte
	for i, f := range []wsFrame{{op: opBinary, payload: []byte("a")}, {op: opContinuation, payload: []byte("b")}} {
		if m, err := join(&message, f, pim.MaxFrame); m != nil || err != nil {
			t.Fatalf("fragment %d gave %q, %v", i, m, err)
		}
	}
	if m, err := join(&message, wsFrame{op: opContinuation, final: true, payload: []byte("c")}, pim.MaxFrame); string(m) != "abc" || err != nil {
		t.Fatalf("joined to %q, %v", m, err)
	}
	if _, err := join(&message, wsFrame{op: opContinuation, final: true, payload: []byte("c")}, pim.MaxFrame); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a continuation of nothing gave %v", err)
	}
	if _, err := join(&message, wsFrame{op: opBinary}, pim.MaxFrame); err != nil {
		t.Fatal(err)
	}
	if m, err := join(&message, wsFrame{op: opContinuation, final: true}, pim.MaxFrame); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("fragments without a byte gave %q, %v", m, err)
	}
	if _, err := join(&message, wsFrame{op: opBinary, payload: []byte("c")}, pim.MaxFrame); err != nil {
		t.Fatal(err)
	}
	if _, err := join(&message, wsFrame{op: opContinuation, payload: make([]byte, pim.MaxFrame)}, pim.MaxFrame); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("fragments above the limit gave %v", err)
	}
}

func FuzzCutWebSocket(f *testing.F) {
	f.Add(clientFrame(ws.OpBinary, true, []byte("hello")))
	f.Add(clientFrame(ws.OpPing, true, nil))
	f.Add(clientFrame(ws.OpBinary, false, make([]byte, 300)))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		for buf := bytes.Clone(data); ; {
			_, rest, need, err := cutWebSocket(buf, pim.MaxFrame)
			if err != nil {
				return
			}
			if need > 0 {
				if need <= len(buf) || need > pim.MaxFrame+maxHeader {
					t.Fatalf("needs %d bytes, has %d", need, len(buf))
				}
				return
			}
			if len(rest) >= len(buf) {
				t.Fatal("a frame without bytes")
			}
			buf = rest
		}
	})
}
