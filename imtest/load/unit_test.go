package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func TestHistogramIsPrecise(t *testing.T) {
	for _, ns := range []int64{0, 1, 63, 64, 127, 128, 1000, 123_456, 987_654_321, 600e9} {
		if got := middle(bucketOf(ns)); got < float64(ns)*0.99 || got > float64(ns)*1.01 {
			t.Errorf("%d ns is reported as %g", ns, got)
		}
	}
	var h histogram
	if q := h.quantiles(0.5); q[0] != 0 {
		t.Errorf("median of nothing: %g", q[0])
	}
	for i := range int64(1000) {
		h.record((i + 1) * 1e6)
	}
	h.record(1 << 62) // beyond the range: counted in the last bucket
	q := h.quantiles(0.5, 0.99)
	if q[0] < 495 || q[0] > 505 || q[1] < 980 || q[1] > 1000 {
		t.Errorf("quantiles %v", q)
	}
}

func TestTemplatesAreFrames(t *testing.T) {
	for _, size := range []int{minPayload, 100, 200, 70_000 - 5_000} {
		tmpl := sendTemplate("d:a:b", size)
		putID(tmpl.frame[tmpl.id:], 1_800_000_000_123, 0x3ffff, 77, 1<<31)
		putLocal(tmpl.frame[tmpl.local:], 1_800_000_000_123)
		s := stamp{run: 1, at: 2, sender: 3, counter: 4}
		s.put(tmpl.frame[tmpl.stamp:])
		_, m, err := wire.Decode(tmpl.frame)
		if err != nil {
			t.Fatal(err)
		}
		req := m.(*wirepb.PIMSendReq)
		var got stamp
		if !got.get(req.Payload, 1) || got != s || len(req.Payload) != size {
			t.Errorf("payload of %d bytes, stamp %+v", len(req.Payload), got)
		}
		id, _ := wire.ClientID(req.ClientMessageId)
		if counter, ok := counterOf(id[:]); !ok || counter != 1<<31 || id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Errorf("client message ID %s", id)
		}
		if req.LocalMs != 1_800_000_000_123 || req.Conversation != "d:a:b" || req.Attempt != 1 {
			t.Errorf("%v", req)
		}
		gotID, payload, ok := sendPayload(tmpl.frame[1:])
		if !ok || !bytes.Equal(gotID, id[:]) || !bytes.Equal(payload, req.Payload) {
			t.Error("sendPayload differs from the decoder")
		}
	}
}

func TestFramingsReadWhatTheyWrite(t *testing.T) {
	for _, f := range []framing{tcpFraming, wsFraming} {
		var stream []byte
		var frames [][]byte
		for _, n := range []int{1, 7, 125, 126, 1000, 65_535, 65_536, 100_000} {
			frame := make([]byte, n)
			for i := range frame {
				frame[i] = byte(rand.Uint32())
			}
			var start int
			stream, start = f.begin(stream, n, ws.OpBinary)
			stream = append(stream, frame...)
			f.end(stream, start)
			frames = append(frames, frame)
		}
		for cut := range 20 {
			if _, frame, rest, err := f.cut(stream[:cut]); frame != nil && cut < 5 || err != nil || frame == nil && len(rest) != cut {
				t.Fatalf("of %d bytes: frame %v, rest %d, %v", cut, frame, len(rest), err)
			}
			if f == wsFraming && cut >= 7 {
				break // cut unmasks a whole frame in place
			}
		}
		if f == wsFraming {
			mask(stream[6:7], uint32(stream[2])|uint32(stream[3])<<8|uint32(stream[4])<<16|uint32(stream[5])<<24)
		}
		for _, want := range frames {
			var got []byte
			var err error
			if _, got, stream, err = f.cut(stream); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("a frame of %d bytes came back as %d: %v", len(want), len(got), err)
			}
		}
	}
}

func TestEntryFieldsAgreeWithTheDecoder(t *testing.T) {
	e := pim.Entry{Seq: 300, Anchor: 299, Count: 5, Kind: pim.EntryMessage, Sender: "a", Device: "d", Local: 1 << 40, Server: 1 << 40, Members: []pim.UserID{"x"}, Payload: []byte("hi")}
	b := wire.AppendEntry(nil, &e)
	seq, kind, payload, ok := entryFields(b)
	if !ok || seq != 300 || kind != uint64(pim.EntryMessage) || string(payload) != "hi" {
		t.Errorf("%d %d %q %t", seq, kind, payload, ok)
	}
	for n := range len(b) {
		entryFields(b[:n]) // any result will do, but it must return
	}
}

func FuzzFields(f *testing.F) {
	f.Add(wire.Append(nil, &wirepb.PIMSendAck{ClientMessageId: make([]byte, 16), Conversation: "d:a:b", Seq: 9})[1:])
	f.Add(wire.Append(nil, &wirepb.PIMPullResp{From: 3, To: 2, Done: true})[1:])
	f.Add(sendTemplate("d:a:b", 30).frame[1:])
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		for w := (fields{rest: body}); w.next(); n++ {
			if n > len(body) {
				t.Fatal("does not end")
			}
		}
	})
}

func TestStream(t *testing.T) {
	type step struct {
		pulled     bool
		slot       int
		counter    uint32
		seq        uint64
		fresh, gap bool
	}
	for name, c := range map[string]struct {
		steps               []step
		doubled, misordered uint64
	}{
		"two senders in turn": {steps: []step{
			{slot: 0, counter: 0, seq: 1, fresh: true}, {slot: 1, counter: 0, seq: 2, fresh: true}, {slot: 0, counter: 1, seq: 3, fresh: true},
		}},
		"the same entry twice": {doubled: 1, steps: []step{
			{counter: 0, seq: 1, fresh: true}, {counter: 0, seq: 1},
		}},
		"a message written twice": {doubled: 1, steps: []step{
			{counter: 0, seq: 1, fresh: true}, {counter: 0, seq: 2},
		}},
		"another sender's later entry first": {misordered: 1, steps: []step{
			{slot: 0, counter: 0, seq: 2, fresh: true}, {slot: 1, counter: 0, seq: 1, fresh: true},
		}},
		"a gap is not taken in": {steps: []step{
			{counter: 0, seq: 1, fresh: true}, {counter: 2, seq: 3, gap: true},
		}},
		"a pull finds a hole that is filled later": {misordered: 1, steps: []step{
			{pulled: true, counter: 1, seq: 1, fresh: true}, {pulled: true, counter: 0, seq: 2, fresh: true},
		}},
		"a pull repeats what is known": {steps: []step{
			{counter: 0, seq: 1, fresh: true}, {pulled: true, counter: 0, seq: 1}, {pulled: true, counter: 1, seq: 2, fresh: true},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStream(2, &received{})
			for i, x := range c.steps {
				var fresh, gap bool
				if x.pulled {
					fresh = s.pull(x.slot, x.counter, x.seq)
				} else {
					fresh, gap = s.push(x.slot, x.counter, x.seq)
				}
				if fresh != x.fresh || gap != x.gap {
					t.Errorf("step %d: fresh %t, gap %t", i, fresh, gap)
				}
			}
			if s.doubled != c.doubled || s.misordered != c.misordered {
				t.Errorf("doubled %d, misordered %d", s.doubled, s.misordered)
			}
		})
	}
}

func TestMetricsURLFollowsTheServer(t *testing.T) {
	for server, want := range map[string]string{
		"tcp://127.0.0.1:7401": "http://127.0.0.1:7400/metrics",
		"http://a:1":           "http://a:1/metrics",
	} {
		u, _ := url.Parse(server)
		if got := metricsURL(Direct, u); got != want {
			t.Errorf("%s: %s", server, got)
		}
	}
}

// Users are spread over all servers, and the two of a pair are on one as often as by chance.
func TestUsersAreSpreadOverServers(t *testing.T) {
	for servers := 1; servers <= 5; servers++ {
		cfg := Config{Server: "0"}
		for n := 1; n < servers; n++ {
			cfg.Others = append(cfg.Others, fmt.Sprint(n))
		}
		pairs := map[string]int{}
		for n := 0; n < 2*servers*servers; n += 2 {
			pairs[cfg.serverOf(n)+cfg.serverOf(n+1)]++
		}
		for a := range servers {
			for b := range servers {
				if got := pairs[fmt.Sprint(a)+fmt.Sprint(b)]; got != 1 {
					t.Errorf("%d servers: %d pairs are on %d and %d, want 1", servers, got, a, b)
				}
			}
		}
	}
}

// While many sends are refused, a message whose seq follows is taken in, whatever counters were refused before it. One
// of those that comes after all is misordered.
func TestStreamOfRefusedSends(t *testing.T) {
	s := newStream(1, &received{})
	s.sparse = true
	for i, x := range []struct {
		counter    uint32
		seq        uint64
		fresh, gap bool
	}{{0, 1, true, false}, {5, 2, true, false}, {9, 4, false, true}, {3, 3, true, false}} {
		if fresh, gap := s.push(0, x.counter, x.seq); fresh != x.fresh || gap != x.gap {
			t.Errorf("step %d: fresh %t, gap %t", i, fresh, gap)
		}
	}
	if s.misordered != 2 || s.doubled != 0 { // its seq, too, comes after a later one
		t.Errorf("misordered %d, doubled %d", s.misordered, s.doubled)
	}
}
