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

// What clients do, by mistake or on purpose, that must cost neither memory nor
// anybody's patience.

// conn returns the only connection of user.
func (x *lab) conn(user pim.UserID) *conn {
	x.t.Helper()
	conns := x.gw.sessions.of(user)
	if len(conns) != 1 {
		x.t.Fatalf("%s has %d connections", user, len(conns))
	}
	return conns[0]
}

// eventually waits until ok holds.
func (x *lab) eventually(what string, ok func() bool) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatal("in vain: ", what)
		}
	}
}

// A client that asks and does not read what it is answered is not read either, and
// what it is owed is bounded; it goes on where it was.
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
				unsent := c.unsent
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
			x.gw.Deliver([]conv.Answer{{Request: r, Err: r.Conversation.Validate()}}, nil)
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

// A connection that was replaced, and whose client reads nothing, is under the same
// limits as any: neither it nor the end of the gateway waits for that client.
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

// A reader that takes what it can, slowly, is not too slow: that is measured by
// the step, not by all that is queued.
func TestSteadyReaderIsNotTooSlow(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Idle = time.Hour })
	slow := &slowConn{x: x}
	c := newConn(x.gw, slow, false)
	slow.c = c
	const n = 320 << 10
	if _, err := c.write(make([]byte, n)); err != nil || slow.taken != n {
		t.Errorf("%d bytes were taken, %v", slow.taken, err)
	}
	if c.writing.Load() != 0 {
		t.Error("it is still writing")
	}
}

// slowConn takes half the limit of time for 32 KiB: for all of it more than that.
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

// What comes right behind Hello is heard without waiting for more.
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

// The first frame is small: whoever has not said who it is makes the server hold no
// more than that, and decode nothing else.
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

// What only servers send is refused before it is decoded: two bytes of it can cost
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

// A large frame that comes byte by byte is not copied for each of them.
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

// Frames in a row, none of them long under way, are no half frame; nor is one that
// waits for the writers and not for the client.
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
	t.Run("a slow line", func(t *testing.T) { // 4 kB/s: the whole takes longer than a half frame may
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
		held := make(chan *conv.Request, 100)
		x.submit = func(requests []*conv.Request) {
			for _, r := range requests {
				held <- r
			}
		}
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
			x.gw.Deliver([]conv.Answer{{Request: <-held, Seq: pim.Seq(i + 1)}}, nil)
			expect[*wirepb.PIMSendAck](p)
		}
	})
}

// RFC 6455 section 5.5.1.
func TestCloseIsAnswered(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(true, "alice", "phone")
	p.write(clientFrame(ws.OpClose, true, []byte{3, 232}))
	b := make([]byte, 100)
	if n, err := p.nc.Read(b); err != nil || !bytes.Equal(b[:n], []byte{0x88, 2, 3, 232}) {
		t.Errorf("answered with %x, %v", b[:n], err)
	}
}

// A connection that says nothing does not hold a stop.
func TestGoAwayBreaksHandshakesOff(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Handshake = time.Hour })
	x.dial(false)
	x.eventually("it is open", func() bool { return x.gw.Open() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	x.gw.GoAway(ctx)
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
			x.gw.GoAway(t.Context())
			close(done)
		}()
		for _, p := range peers {
			expect[*wirepb.PIMGoAway](p)
		}
		release()
		<-done
	})
}

// heldLog is a log of which a message takes its time.
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

// What a handshake asks of the store has been answered when Close returns, after
// which the store is closed.
func TestCloseWaitsForHandshakes(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		asked := make(chan struct{})
		var answered atomic.Bool
		x.greet = func(ctx context.Context) {
			close(asked)
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond) // for a Close that does not wait to return
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

// A token is taken for as long as clocks may differ, and so is its connection.
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
	x.pull = func() { entered <- struct{}{}; <-leave }
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
		return len(c.tasks) == 2 && !c.sending
	})
	c.mu.Lock()
	c.behind = true
	c.mu.Unlock()
	r := prometheus.NewRegistry()
	r.MustRegister(newQueues(x.gw))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	want := map[string]float64{"pim_unsent_bytes": 0, "pim_sends_in_flight": 3, "pim_requests_waiting": 2, "pim_connections_behind": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	close(leave)
}

// A frame whose header promises more than may come is refused by its header.
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
