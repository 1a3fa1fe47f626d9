package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"github.com/prometheus/client_golang/prometheus"
)

// What clients do, by mistake or on purpose, must cost little memory and hold up nobody else.

// conn returns the only connection of user.
func (x *lab) conn(user pim.UserID) *conn {
	x.t.Helper()
	conns := x.gw.Sessions.of(user)
	if len(conns) != 1 {
		x.t.Fatalf("%s has %d connections", user, len(conns))
	}
	return conns[0]
}

// eventually waits until ok holds.
func (x *lab) eventually(what string, ok func() bool) {
	x.t.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatal("in vain: ", what)
		}
	}
}

// A client asks and does not read the answers. The server stops reading from it, and what
// waits for it is bounded. When it reads again it goes on where it was.
func TestAnswersNobodyReadsAreBounded(t *testing.T) {
	for name, m := range map[string]wire.Message{
		"pings":            &wirepb.PIMPing{},
		"times":            &wirepb.PIMTimeReq{T1: 1},
		"acknowledgements": sendReq(1, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			x := newLab(t, nil)
			p := x.connect(false, "alice", "phone")
			c := x.conn("alice")
			p.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
			frames := bytes.Repeat(p.frame(wire.Append(nil, m)), 1000)
			for {
				p.nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				if _, err := p.nc.Write(frames); errors.Is(err, os.ErrDeadlineExceeded) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				c.mu.Lock()
				unsent := c.unsent()
				c.mu.Unlock()
				if most := 2*x.gw.Limits.QueueBytes + pim.MaxFrame; unsent > most {
					t.Fatalf("%d bytes wait for a client that reads nothing", unsent)
				}
			}
			p.nc.SetReadDeadline(time.Now().Add(5 * time.Minute))
			if p.next() == nil {
				t.Error("the connection has ended")
			}
		})
	}
}

// An error may quote what the client sent, but not all of it.
func TestErrorsAreSmall(t *testing.T) {
	x := newLab(t, nil)
	x.submit = func(requests []*conv.Request) {
		for _, r := range requests {
			x.gw.Sessions.Deliver([]conv.Answer{{Request: r, Err: r.Conversation.Validate()}}, nil)
		}
	}
	p := x.connect(false, "alice", "phone")
	m := sendReq(1, "x")
	m.Conversation = strings.Repeat("é\x01", 60<<10)
	p.send(m)
	if e := expect[*wirepb.PIMError](p); e.SizeVT() > 1024 || e.Conversation != "" || e.Kind != wirepb.ErrorKind_ERROR_KIND_INVALID {
		t.Errorf("answered with %d bytes: kind %s, conversation of %d bytes", e.SizeVT(), e.Kind, len(e.Conversation))
	}
	m = sendReq(1, "x")
	m.ClientMessageId = make([]byte, 200<<10)
	p.send(m)
	if e := expect[*wirepb.PIMError](p); e.SizeVT() > 1024 || e.Kind != wirepb.ErrorKind_ERROR_KIND_INVALID {
		t.Errorf("answered with %d bytes: kind %s", e.SizeVT(), e.Kind)
	}
}

// A replaced connection whose client reads nothing has the same limits of time as any other,
// and the end of the gateway does not wait for that client.
func TestReplacedConnectionThatDoesNotRead(t *testing.T) {
	stuck := func(t *testing.T) (*lab, *conn) {
		x := newLab(t, nil)
		x.connect(false, "alice", "phone")
		c := x.conn("alice")
		x.eventually("the connection's socket is full", func() bool {
			x.push("alice", 10, 60<<10)
			since := c.writing.Load()
			return since != 0 && x.gw.elapsed()-since > 100
		})
		x.connect(false, "alice", "phone")
		return x, c
	}
	t.Run("janitor", func(t *testing.T) {
		x, _ := stuck(t)
		fresh := x.conn("alice")
		x.eventually("its Welcome is written", func() bool { return fresh.writing.Load() == 0 })
		x.ahead.Add(int64(x.gw.Limits.Write + time.Second)) // passes would wait for the stuck one
		x.eventually("only the new one is open", func() bool { return x.gw.Open() == 1 })
	})
	t.Run("close", func(t *testing.T) {
		x, _ := stuck(t)
		x.gw.Close()
		if n := x.gw.Open(); n != 0 {
			t.Errorf("%d are open", n)
		}
	})
}

// A client that reads slowly but steadily is not closed: Limits.Write is for each writeStep,
// not for all that is queued.
func TestSteadyReaderIsNotTooSlow(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Idle = time.Hour })
	slow := &slowConn{x: x}
	c := newConn(x.gw, slow, lengths)
	slow.c = c
	const n = 320 << 10
	enqueuer{c, entries}.copy(make([]byte, n))
	c.send()
	if want := n + wire.TCPHeader; slow.taken != want || c.closed {
		t.Errorf("%d of %d bytes were taken; it is closed: %v", slow.taken, want, c.closed)
	}
	if c.writing.Load() != 0 {
		t.Error("it is still writing")
	}
}

// slowConn takes half of Limits.Write for 32 KiB, so more than the limit for all.
type slowConn struct {
	net.Conn
	x     *lab
	c     *conn
	taken int
}

func (s *slowConn) Write(b []byte) (int, error) {
	s.x.passes(s.x.gw.Limits.Write / 2 * time.Duration(len(b)) / (32 << 10))
	s.c.inspect(s.x.gw.moment())
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.closed {
		return 0, net.ErrClosed
	}
	s.taken += len(b)
	return len(b), nil
}

func (s *slowConn) Close() error { return nil }

// Frames that come in one read with Hello are handled without waiting for more bytes.
func TestFramesBehindHello(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.dial(websocket)
		p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"}, &wirepb.PIMPing{Nonce: 7})
		expect[*wirepb.Welcome](p)
		if m := expect[*wirepb.PIMPong](p); m.Nonce != 7 {
			t.Errorf("answered with %v", m)
		}
	})
}

// A client that has not said who it is may send only a small first frame, and only Hello is
// decoded.
func TestFirstFrameIsSmall(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.dial(websocket)
		p.send(&wirepb.Hello{Version: wire.Version, Token: strings.Repeat("x", maxHello)})
		p.closedWith(wire.CodeTooLarge)
		p = x.dial(websocket)
		p.write(p.frame([]byte{byte(wire.TypePullResp), 0xff}))
		p.closedWith(wire.CodeProtocol)
	})
}

// A frame that only servers send is refused before it is decoded: two of its bytes can take
// a hundred in memory.
func TestServersFramesAreNotDecoded(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(false, "alice", "phone")
	frame := append([]byte{byte(wire.TypePullResp)}, bytes.Repeat([]byte{0x1a, 0}, (pim.MaxFrame-2)/2)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.write(p.frame(frame))
	p.closedWith(wire.CodeProtocol)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 8*pim.MaxFrame {
		t.Errorf("%d bytes were allocated for a frame of %d that is refused", used, len(frame))
	}
}

// A large frame that comes byte by byte is not copied for each byte.
func TestTrickleIsNotCopied(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		frame := p.frame(wire.Append(nil, sendReq(1, string(make([]byte, pim.MaxPayload)))))
		p.write(frame[:len(frame)-200])
		c := x.conn("alice")
		x.eventually("the first bytes are read", func() bool { return c.halfSince.Load() != 0 })
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, b := range frame[len(frame)-200:] {
			p.write([]byte{b})
			time.Sleep(100 * time.Microsecond)
		}
		expect[*wirepb.PIMSendAck](p)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 40*pim.MaxPayload {
			t.Errorf("%d bytes were allocated for 200 that came one at a time", used)
		}
	})
}

// No client is closed for an unfinished frame if its frames come in a row, each in time; if a
// large frame grows steadily; or if a frame waits for the writers and not for the client.
func TestNoHalfFrame(t *testing.T) {
	t.Run("fragments back to back", func(t *testing.T) {
		x := newLab(t, nil)
		p := x.connect(true, "alice", "phone")
		c := x.conn("alice")
		ping := wire.Append(nil, &wirepb.PIMPing{Nonce: 1})
		begin, end := clientFrame(ws.OpBinary, false, ping[:1]), clientFrame(ws.OpContinuation, true, ping[1:])
		p.write(begin)
		for range 5 {
			p.write(append(bytes.Clone(end), begin...))
			expect[*wirepb.PIMPong](p)
			x.passes(x.gw.Limits.Handshake / 2)
			c.inspect(x.gw.moment())
		}
	})
	t.Run("a slow line", func(t *testing.T) { // 4 kB/s: the whole frame takes longer than Limits.Handshake
		both(t, func(t *testing.T, websocket bool) {
			x := newLab(t, nil)
			p := x.connect(websocket, "alice", "phone")
			c := x.conn("alice")
			frame := p.frame(wire.Append(nil, sendReq(1, string(make([]byte, pim.MaxPayload)))))
			for len(frame) > 20_000 {
				now := x.gw.elapsed()
				p.write(frame[:20_000])
				frame = frame[20_000:]
				x.eventually("it makes way", func() bool { return c.halfSince.Load() >= now })
				x.passes(x.gw.Limits.Handshake / 2)
				c.inspect(x.gw.moment())
			}
			p.write(frame)
			expect[*wirepb.PIMSendAck](p)
		})
	})
	t.Run("slow writers", func(t *testing.T) {
		x := newLab(t, nil)
		held := x.holdSends()
		p := x.connect(false, "alice", "phone")
		c := x.conn("alice")
		var b []byte
		for i := range x.gw.Limits.InFlight + 1 {
			b = append(b, p.frame(wire.Append(nil, sendReq(byte(i+1), "x")))...)
		}
		p.write(b[:len(b)-1])
		x.eventually("half a frame is read", func() bool { return c.halfSince.Load() != 0 })
		p.write(b[len(b)-1:]) // the client is done
		x.eventually("the rest is read", func() bool { return c.halfSince.Load() == 0 })
		x.passes(x.gw.Limits.Handshake + time.Second)
		c.inspect(x.gw.moment())
		for i := range x.gw.Limits.InFlight {
			x.gw.Sessions.Deliver([]conv.Answer{{Request: <-held, Seq: pim.Seq(i + 1)}}, nil)
			expect[*wirepb.PIMSendAck](p)
		}
	})
}

// A close frame is answered with one, RFC 6455 section 5.5.1.
func TestCloseIsAnswered(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(true, "alice", "phone")
	p.write(clientFrame(ws.OpClose, true, []byte{3, 232}))
	b := make([]byte, 100)
	if n, err := p.nc.Read(b); err != nil || !bytes.Equal(b[:n], []byte{0x88, 2, 3, 232}) {
		t.Errorf("answered with %x, %v", b[:n], err)
	}
}

// A connection that has sent no Hello does not hold up GoAway.
func TestGoAwayBreaksHandshakesOff(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Handshake = time.Hour })
	x.dial(false)
	x.eventually("it is open", func() bool { return x.gw.Open() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	x.gw.GoAway(ctx, Farewell{})
	if x.gw.Open() != 0 {
		t.Errorf("%d are open", x.gw.Open())
	}
}

// Clients that have read their Welcome are told to go, however little time has
// passed.
func TestGoAwayRightBehindWelcome(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		held, release := context.WithCancel(t.Context())
		defer release()
		x.gw.Logger = slog.New(&heldLog{message: "connected", until: held.Done()})
		var peers []*peer
		for i := range 20 {
			peers = append(peers, x.connect(websocket, fmt.Sprint("user-", i), "phone"))
		}
		done := make(chan struct{})
		go func() {
			x.gw.GoAway(t.Context(), Farewell{})
			close(done)
		}()
		for _, p := range peers {
			expect[*wirepb.PIMGoAway](p)
		}
		release()
		<-done
	})
}

// heldLog is a log that takes one message only when until is closed.
type heldLog struct {
	message string
	until   <-chan struct{}
}

func (h *heldLog) Enabled(context.Context, slog.Level) bool { return true }
func (h *heldLog) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *heldLog) WithGroup(string) slog.Handler            { return h }
func (h *heldLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		<-h.until
	}
	return nil
}

// Close waits for what handshakes ask of the store, since the store is closed next.
func TestCloseWaitsForHandshakes(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		asked := make(chan struct{})
		var answered atomic.Bool
		x.greet = func(ctx context.Context) {
			close(asked)
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond) // gives a Close that does not wait the time to return
			answered.Store(true)
		}
		p := x.dial(websocket)
		p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
		<-asked
		x.gw.Close()
		if !answered.Load() {
			t.Error("the handshake goes on")
		}
	})
}

// One user cannot take all connections; a device that has one may replace it.
func TestConnectionsOfAUserAreBounded(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.User = 2 })
	first := x.connect(false, "alice", "1")
	x.connect(false, "alice", "2")
	p := x.dial(false)
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "3"})
	if e := expect[*wirepb.PIMError](p); e.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED {
		t.Errorf("refused with %v", e)
	}
	p.closedWith(wire.CodeOverloaded)
	x.connect(false, "alice", "1")
	first.closedWith(wire.CodeReplaced)
	x.connect(false, "bob", "3")
}

// A connection stays open after its token has expired for as long as clocks may differ.
func TestTokenLeeway(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(false, "alice", "phone") // for an hour
	c := x.conn("alice")
	x.wrong.Store(int64(time.Hour + account.Leeway/2))
	c.inspect(x.gw.moment())
	p.send(&wirepb.PIMPing{Nonce: 1})
	expect[*wirepb.PIMPong](p)
	x.wrong.Store(int64(time.Hour + account.Leeway + 2*time.Second))
	p.closedWith(wire.CodeUnauthorized)
}

// What waits for connections can be watched.
func TestQueuesAreCounted(t *testing.T) {
	x := newLab(t, nil)
	x.submit = func([]*conv.Request) {}
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	x.pull = func(context.Context) { entered <- struct{}{}; <-leave }
	p := x.connect(false, "alice", "phone")
	p.send(sendReq(1, "x"), sendReq(2, "x"), sendReq(3, "x"))
	for i := range 3 {
		p.send(&wirepb.PIMPullReq{RequestId: uint64(i), Conversation: "g:x"})
	}
	<-entered
	c := x.conn("alice")
	x.eventually("all is read, and Welcome is written", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tasks != nil && len(c.tasks.waiting) == 2 && !c.sending
	})
	behind, _ := c.begin(entries)
	behind.fallBehind() // waits, since nobody starts the sender
	behind.drop()
	r := prometheus.NewRegistry()
	r.MustRegister(newQueues(x.gw.Sessions))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	want := map[string]float64{"pim_unsent_bytes": float64(wire.TCPHeader + len(behindPush)), "pim_sends_in_flight": 3, "pim_requests_waiting": 2, "pim_connections_behind": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	close(leave)
}

// A frame whose header announces more than the limit is refused before the rest comes.
func TestAnnouncedSizesAreBelieved(t *testing.T) {
	x := newLab(t, nil)
	p := x.dial(false)
	p.write(binary.BigEndian.AppendUint32(nil, maxHello+1))
	p.closedWith(wire.CodeTooLarge)
}

// Where the node keeps what, and in which engine, is no client's business.
func TestRefusalsNameNoFiles(t *testing.T) {
	x := newLab(t, nil)
	cause := errors.New("read /var/lib/pim/store/000020.sst: checksum mismatch")
	for _, k := range []pim.Kind{pim.KindCorrupt, pim.KindDiskFull, pim.KindUnavailable} {
		m := x.gw.refusal(pim.Errorf(k, "the log of g:x: %w", cause))
		if strings.Contains(m.Text, "/var/") || m.Kind != wirepb.ErrorKind(k) || !strings.Contains(m.Text, "its log says more") {
			t.Errorf("%s: %v", k, m)
		}
	}
	plain := &pim.Error{Kind: pim.KindUnavailable, Text: "the node is stopping", RetryAfter: time.Second}
	if m := x.gw.refusal(plain); m.Text != plain.Text || m.RetryAfterMs != 1000 {
		t.Errorf("%v", m)
	}
}
