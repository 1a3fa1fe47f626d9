package gateway

import (
	"encoding/binary"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestConversationOverBothTransports(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		p.send(sendReq(1, "one"), sendReq(2, "two"), &wirepb.PIMPing{Nonce: 7}, &wirepb.PIMTimeReq{T1: 5})
		seen := map[string]int{}
		for range 4 {
			switch m := p.next().(type) {
			case *wirepb.PIMSendAck:
				seen["ack"]++
			case *wirepb.PIMPong:
				if m.Nonce != 7 || m.ServerMs == 0 {
					t.Errorf("pong %v", m)
				}
				seen["pong"]++
			case *wirepb.PIMTimeResp:
				if m.T1 != 5 || m.T2 == 0 || m.T3 < m.T2 {
					t.Errorf("time %v", m)
				}
				seen["time"]++
			default:
				t.Fatalf("got %T %v", m, m)
			}
		}
		if seen["ack"] != 2 || seen["pong"] != 1 || seen["time"] != 1 {
			t.Errorf("got %v", seen)
		}
	})
}

func TestWelcomeSaysWhatTheServerKnows(t *testing.T) {
	x := newLab(t, nil)
	x.serial = 9
	p := x.dial(false)
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone", AckSerial: 8})
	w := expect[*wirepb.Welcome](p)
	if !w.StorageBehind || w.AckSerial != 9 || w.User != "alice" || w.Store != "a store" || w.Limits.InFlight != 4 || w.Limits.FrameBytes != pim.MaxFrame {
		t.Errorf("welcome %v", w)
	}
}

func TestHandshakeRefusals(t *testing.T) {
	hello := func() *wirepb.Hello { return &wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"} }
	for _, test := range []struct {
		name  string
		first func() wire.Message
		want  wire.Code
	}{
		{"another version", func() wire.Message { h := hello(); h.Version = 99; return h }, wire.CodeUnsupported},
		{"no token", func() wire.Message { h := hello(); h.Token = ""; return h }, wire.CodeUnauthorized},
		{"bad token", func() wire.Message { h := hello(); h.Token = "bad"; return h }, wire.CodeUnauthorized},
		{"bad device", func() wire.Message { h := hello(); h.Device = "a/b"; return h }, wire.CodeProtocol},
		{"not Hello", func() wire.Message { return sendReq(1, "x") }, wire.CodeProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			both(t, func(t *testing.T, websocket bool) {
				p := newLab(t, nil).dial(websocket)
				p.send(test.first())
				p.closedWith(test.want)
			})
		})
	}
}

// A client that sends nothing, or an unfinished frame, cannot hold a connection.
func TestSlowClientsAreClosed(t *testing.T) {
	short := func(l *Limits) { l.Handshake = 50 * time.Millisecond }
	t.Run("no Hello", func(t *testing.T) {
		both(t, func(t *testing.T, websocket bool) {
			newLab(t, short).dial(websocket).closedWith(wire.CodeHandshake)
		})
	})
	t.Run("half a frame", func(t *testing.T) {
		both(t, func(t *testing.T, websocket bool) {
			x := newLab(t, nil)
			p := x.connect(websocket, "alice", "phone")
			frame := p.frame(wire.Append(nil, sendReq(1, "never whole")))
			p.write(frame[:len(frame)-1])
			c := x.conn("alice")
			x.eventually("half a frame is read", func() bool { return c.halfSince.Load() != 0 })
			x.passes(x.gw.Limits.Handshake + time.Second)
			p.closedWith(wire.CodeHandshake)
		})
	})
	t.Run("fragments without an end", func(t *testing.T) {
		x := newLab(t, nil)
		p := x.connect(true, "alice", "phone")
		p.write(clientFrame(ws.OpBinary, false, []byte{byte(wire.TypeSendReq)}))
		c := x.conn("alice")
		x.eventually("a fragment is read", func() bool { return c.halfSince.Load() != 0 })
		x.passes(x.gw.Limits.Handshake/2 + time.Second)
		now := x.gw.elapsed()
		p.write(clientFrame(ws.OpPing, true, nil)) // a ping does not extend the limit
		x.eventually("a ping is read", func() bool { return c.lastRead.Load() >= now })
		x.passes(x.gw.Limits.Handshake / 2)
		p.closedWith(wire.CodeHandshake)
	})
	t.Run("idle", func(t *testing.T) {
		p := newLab(t, func(l *Limits) { l.Idle = 50 * time.Millisecond }).connect(false, "alice", "phone")
		p.closedWith(wire.CodeIdle)
	})
}

func TestBadFramesEndTheConnection(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		broken := x.connect(websocket, "alice", "1")
		broken.write(broken.frame([]byte{byte(wire.TypeSendReq), 0xff}))
		broken.closedWith(wire.CodeProtocol)
		twice := x.connect(websocket, "alice", "2")
		twice.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "2"})
		twice.closedWith(wire.CodeProtocol)
		large := x.connect(websocket, "alice", "3")
		if websocket {
			large.write([]byte{0x82, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 1, 2, 3, 4})
		} else {
			large.write(binary.BigEndian.AppendUint32(nil, pim.MaxFrame+1))
		}
		large.closedWith(wire.CodeTooLarge)
	})
}

func TestUnknownFramesAreSkipped(t *testing.T) {
	p := newLab(t, nil).connect(false, "alice", "phone")
	p.write(p.frame([]byte{200, 1, 2, 3}))
	p.send(&wirepb.PIMPing{Nonce: 1})
	expect[*wirepb.PIMPong](p)
}

func TestSecondConnectionOfADeviceReplacesTheFirst(t *testing.T) {
	x := newLab(t, nil)
	first := x.connect(false, "alice", "phone")
	other := x.connect(false, "alice", "laptop")
	second := x.connect(true, "alice", "phone")
	first.closedWith(wire.CodeReplaced)
	x.push("alice", 1, 10)
	expect[*wirepb.PIMPush](second)
	expect[*wirepb.PIMPush](other)
}

// Once the new connection has its Welcome, nothing that the replaced connection sends reaches
// a writer: the client sends it again over the new one.
func TestReplacedConnectionSubmitsNothing(t *testing.T) {
	x := newLab(t, nil)
	old := x.connect(false, "alice", "phone")
	c := x.gw.Sessions.of("alice")[0]
	entered, leave := make(chan struct{}), make(chan struct{})
	var taken atomic.Int32
	x.mu.Lock()
	x.submit = func(requests []*conv.Request) {
		if taken.Add(int32(len(requests))) == 1 {
			close(entered)
			<-leave
		}
	}
	x.mu.Unlock()
	old.send(sendReq(1, "under way"))
	<-entered
	fresh := x.dial(false)
	fresh.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
	old.closedWith(wire.CodeReplaced)
	close(leave)
	expect[*wirepb.Welcome](fresh)
	// Until then c.in is the reader's, which goes on when its Submit returns.
	x.eventually("the old one's reader has ended", func() bool { return x.gw.Open() == 1 })
	c.in.sends = []*conv.Request{{Origin: c}}
	c.awaitSubmit()
	c.submit()
	if n := taken.Load(); n != 1 {
		t.Errorf("%d sends reached the writers", n)
	}
}

// A connection that was opened first, but whose Hello is read late, does not replace the
// newer connection of its device.
func TestStaleHelloDoesNotReplace(t *testing.T) {
	x := newLab(t, nil)
	stale := x.connect(false, "alice", "other") // opened first
	stale.send(&wirepb.PIMPing{})
	expect[*wirepb.PIMPong](stale) // so the handshake is over, which reads c.device until after Welcome
	c := x.gw.Sessions.of("alice")[0]
	x.gw.Sessions.remove(c)
	current := x.connect(false, "alice", "phone")
	c.device = "phone"
	if replaced, _, _ := x.gw.Sessions.add(c, 10); replaced != c {
		t.Fatal("the stale connection replaced the newer one")
	}
	x.push("alice", 1, 10)
	expect[*wirepb.PIMPush](current)
	stale.send(&wirepb.PIMPing{Nonce: 1})
	expect[*wirepb.PIMPong](stale)
}

func TestRefusedRequestsAreAnswered(t *testing.T) {
	x := newLab(t, nil)
	x.submit = func(requests []*conv.Request) {
		for _, r := range requests {
			err := &pim.Error{Kind: pim.KindOverloaded, Text: "full", RetryAfter: 3 * time.Second}
			x.gw.Sessions.Deliver([]conv.Answer{{Request: r, Err: err}}, nil)
		}
	}
	p := x.connect(false, "alice", "phone")
	p.send(sendReq(1, "x"))
	e := expect[*wirepb.PIMError](p)
	if e.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED || !e.Retryable || e.RetryAfterMs != 3000 || e.ClientMessageId[0] != 1 {
		t.Errorf("answered with %v", e)
	}
	p.send(&wirepb.PIMSendReq{Conversation: "d:a:b", ClientMessageId: []byte{1, 2}})
	if e := expect[*wirepb.PIMError](p); e.Kind != wirepb.ErrorKind_ERROR_KIND_INVALID || len(e.ClientMessageId) != 2 {
		t.Errorf("answered with %v", e)
	}
	p.send(&wirepb.PIMPullReq{RequestId: 5, Conversation: "g:none"})
	if e := expect[*wirepb.PIMError](p); e.Kind != wirepb.ErrorKind_ERROR_KIND_NOT_MEMBER || e.RequestId != 5 || e.Conversation != "g:none" {
		t.Errorf("answered with %v", e)
	}
}

// At the limit of sends in flight the server reads no further, and it goes on when answers
// are written.
func TestSendsInFlightAreBounded(t *testing.T) {
	x := newLab(t, nil)
	waiting := x.holdSends()
	p := x.connect(false, "alice", "phone")
	for i := range 10 {
		p.send(sendReq(byte(i+1), "x"))
	}
	for i := range 10 {
		r := <-waiting
		if n := len(waiting); n > 4 {
			t.Fatalf("%d sends in flight, the limit is 4", n)
		}
		x.gw.Sessions.Deliver([]conv.Answer{{Request: r, Seq: pim.Seq(i + 1)}}, nil)
		expect[*wirepb.PIMSendAck](p)
	}
}

// A device does not read: its pushes stop, memory stays bounded, and when it reads again it
// is told to sync. Other devices get their pushes meanwhile.
func TestSlowDeviceFallsBehind(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		slow, quick := x.connect(websocket, "alice", "slow"), x.connect(websocket, "bob", "quick")
		const n, size = 600, 60 << 10 // 36 MB: more than the kernel's buffers take
		x.push("alice", n, size)
		for _, c := range x.gw.Sessions.of("alice") {
			c.mu.Lock()
			if held := c.out.held(); held > 4*x.gw.Limits.QueueBytes {
				t.Errorf("%d bytes are held for the slow device", held)
			}
			c.mu.Unlock()
		}
		x.push("bob", 1, 10)
		expect[*wirepb.PIMPush](quick)
		entries := 0
		for {
			m := expect[*wirepb.PIMPush](slow)
			if m.Behind {
				break
			}
			entries += len(m.Entries)
		}
		if entries == 0 || entries == n {
			t.Errorf("%d of %d entries were pushed before it fell behind", entries, n)
		}
		x.push("alice", 1, 10)
		if m := expect[*wirepb.PIMPush](slow); len(m.Entries) != 1 {
			t.Errorf("after it caught up it got %v", m)
		}
	})
}

// A pull page larger than a frame comes in several frames. Together they settle its range
// without a gap, and the last one says so.
func TestPullPagesAreCutIntoFrames(t *testing.T) {
	x := newLab(t, nil)
	x.page = inbox.Page{From: 3, To: 14, Newest: 20}
	for seq := pim.Seq(4); seq <= 13; seq++ {
		e := pim.Entry{Seq: seq, Anchor: seq, Payload: make([]byte, pim.MaxPayload)}
		x.page.Entries = append(x.page.Entries, inbox.Encoded{Seq: seq, Data: wire.AppendEntry(nil, &e)})
	}
	p := x.connect(false, "alice", "phone")
	p.send(&wirepb.PIMPullReq{RequestId: 1, Conversation: "g:x"})
	next, got := uint64(3), uint64(0)
	for {
		m := expect[*wirepb.PIMPullResp](p)
		if m.From != next || m.RequestId != 1 || m.Newest != 20 {
			t.Fatalf("frame settles %d–%d, want from %d: %v", m.From, m.To, next, m.Newest)
		}
		for _, e := range m.Entries {
			if e.Seq < m.From || e.Seq > m.To {
				t.Errorf("seq %d in a frame for %d–%d", e.Seq, m.From, m.To)
			}
			got++
		}
		next = m.To + 1
		if m.Done {
			break
		}
	}
	if next != 15 || got != 10 {
		t.Errorf("settled up to %d with %d entries", next-1, got)
	}
}

func TestGoAwaySpreadsClients(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		done := make(chan struct{})
		go func() {
			x.gw.GoAway(t.Context(), Farewell{Window: time.Second, Others: func(transport string) []string {
				return []string{map[string]string{TransportWebSocket: "wss://other", TransportTCP: "tls://other:1"}[transport]}
			}})
			close(done)
		}()
		m := expect[*wirepb.PIMGoAway](p)
		if m.Code != uint32(wire.CodeShutdown) || !m.Reconnect || m.WindowMs != 1000 {
			t.Errorf("asked to go with %v", m)
		}
		if len(m.Alternatives) != 1 || strings.HasPrefix(m.Alternatives[0], "wss:") != websocket {
			t.Errorf("told of %q", m.Alternatives)
		}
		<-done
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Connections = 1 })
	x.connect(false, "alice", "phone")
	if m := x.dial(false).next(); m != nil {
		t.Errorf("the second connection got %v", m)
	}
}

func TestWebSocketControlFrames(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(true, "alice", "phone")
	p.write(clientFrame(9, true, []byte("are you there")))
	p.send(&wirepb.PIMPing{Nonce: 1})
	raw := make([]byte, 1024)
	var got strings.Builder
	for !strings.Contains(got.String(), "are you there") {
		n, err := p.nc.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(raw[:n])
	}
	p.write(clientFrame(8, true, nil))
	for {
		if _, err := p.nc.Read(raw); err != nil {
			return
		}
	}
}

// A code about the node gives the long window, a code about one client the short one, and a
// code after which the client must not come back none.
func TestWindowOfEachCode(t *testing.T) {
	g := &Gateway{}
	g.Limits.Drain, g.Limits.Reconnect = 10*time.Second, time.Second
	for code, want := range map[wire.Code]time.Duration{
		wire.CodeShutdown: 10 * time.Second, wire.CodeOverloaded: 10 * time.Second, wire.CodeUnavailable: 10 * time.Second,
		wire.CodeIdle: time.Second, wire.CodeHandshake: time.Second,
		wire.CodeReplaced: 0, wire.CodeProtocol: 0,
	} {
		if got := g.window(code); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}
