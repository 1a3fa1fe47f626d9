package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(floodEnv); addr != "" {
		flood(addr)
	}
	goleak.VerifyTestMain(leaks.Patiently(m))
}

// lab is a gateway whose other side is scripted: its writer, reader and acks.
type lab struct {
	t  *testing.T
	gw *Gateway
	l  net.Listener
	h  *httptest.Server

	begun     time.Time
	ahead     atomic.Int64 // how far both clocks of the gateway are ahead, a time.Duration
	wrong     atomic.Int64 // the same of the wall clock only
	read      atomic.Int64 // what Live tells
	broken    atomic.Bool  // Live fails
	undurable atomic.Bool  // Barrier fails
	barriers  atomic.Int64 // that have not failed
	lately    atomic.Int64 // what LastSeen returns
	failed    atomic.Int64 // how often it has
	doubt     atomic.Bool  // the wall clock is in doubt

	mu     sync.Mutex
	seq    pim.Seq
	submit func([]*conv.Request) // in place of answering at once
	page   inbox.Page            // what pulls get
	list   inbox.SyncPage        // what syncs get
	recent []inbox.Summary       // what comes ahead of it
	pull   func(context.Context) // called by each pull, which waits for it
	greet  func(context.Context) // called by each handshake, which waits for it
	serial uint64
	acks   []inbox.Ack
	fronts []inbox.Front
	synced inbox.SyncRequest // the last one

	withdrawn map[string]*atomic.Bool // by user: the flag of the key of the user's token
	ids       map[string]string       // by what stands behind the user in the token: its jti
}

// options returns the options of x's gateway.
func (x *lab) options(limits func(*Limits)) Options {
	l := Limits{
		Connections: 100, InFlight: 4, QueueBytes: 64 << 10, User: 10, Handshake: 10 * time.Second,
		Idle: time.Minute, Write: 10 * time.Second, Drain: time.Second, Members: 10,
	}
	if limits != nil {
		limits(&l)
	}
	return Options{Writer: x, Sessions: NewSessions(nil), Reader: x, Acks: x, Verifier: x, Limits: l, Presence: true, Store: "a store", Logger: slog.New(slog.DiscardHandler), Now: x.now, Doubt: x.doubts, Mono: x.mono}
}

func newLab(t *testing.T, limits func(*Limits)) *lab {
	return newLabWith(t, limits, func(*lab, *Options) {})
}

// newLabWith returns a lab whose gateway has options that change has changed.
func newLabWith(t *testing.T, limits func(*Limits), change func(*lab, *Options)) *lab {
	x := &lab{t: t, begun: time.Now()}
	o := x.options(limits)
	change(x, &o)
	x.gw = New(o)
	var err error
	if x.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { x.gw.ServeTCP(x.l, nil) })
	x.h = httptest.NewServer(x.gw)
	t.Cleanup(func() {
		x.l.Close()
		x.gw.Close()
		x.h.Close()
		wg.Wait()
	})
	return x
}

// now is the gateway's wall clock.
func (x *lab) now() time.Time { return time.Now().Add(time.Duration(x.ahead.Load() + x.wrong.Load())) }

func (x *lab) doubts() error {
	if x.doubt.Load() {
		return pim.Errorf(pim.KindClockUnhealthy, "the clock has jumped")
	}
	return nil
}

// mono is the gateway's monotonic clock.
func (x *lab) mono() time.Duration { return time.Since(x.begun) + time.Duration(x.ahead.Load()) }

// passes sets the gateway's clocks forward by d once nothing is being written. The gateway
// may not have noted yet that a write is over whose bytes a peer has read, and would then
// take it for a write that lasted d.
func (x *lab) passes(d time.Duration) {
	x.t.Helper()
	x.eventually("nothing is being written", func() bool {
		writing := false
		x.gw.Sessions.each(func(c *conn) { writing = writing || c.writing.Load() != 0 })
		return !writing
	})
	x.ahead.Add(int64(d))
}

// Submit answers every request with the next seq, or leaves that to x.submit.
func (x *lab) Submit(requests []*conv.Request) {
	x.mu.Lock()
	f := x.submit
	var answers []conv.Answer
	for _, r := range requests {
		x.seq++
		answers = append(answers, conv.Answer{Request: r, Seq: x.seq, Anchor: x.seq})
	}
	x.mu.Unlock()
	if f != nil {
		f(requests)
		return
	}
	x.gw.Sessions.Deliver(answers, nil)
}

// holdSends lets the writers answer nothing. It returns the sends that they have taken.
func (x *lab) holdSends() <-chan *conv.Request {
	held := make(chan *conv.Request, 100)
	x.submit = func(requests []*conv.Request) {
		for _, r := range requests {
			held <- r
		}
	}
	return held
}

func (x *lab) Sync(_ context.Context, req inbox.SyncRequest) (inbox.SyncPage, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.synced = req
	return x.list, nil
}

func (x *lab) Recent(context.Context, inbox.SyncRequest) ([]inbox.Summary, error) {
	return x.recent, nil
}

func (x *lab) Pull(ctx context.Context, _ pim.UserID, r inbox.PullRequest) (inbox.Page, error) {
	if r.Conversation == "g:none" {
		return inbox.Page{}, pim.Errorf(pim.KindNotMember, "not a member")
	}
	if x.pull != nil {
		x.pull(ctx)
	}
	return x.page, nil
}

func (x *lab) Receipts(context.Context, pim.UserID, inbox.ReceiptRequest) (inbox.Receipts, error) {
	return inbox.Receipts{}, nil
}

func (x *lab) Members(context.Context, pim.UserID, inbox.MembersRequest) (inbox.MembersPage, error) {
	return inbox.MembersPage{}, nil
}

func (x *lab) Barrier(context.Context) error {
	if x.undurable.Load() {
		x.failed.Add(1)
		return pim.Errorf(pim.KindUnavailable, "the disk fails")
	}
	x.barriers.Add(1)
	return nil
}

func (x *lab) Live(_ context.Context, _ pim.ConversationID, users []pim.UserID, _ *inbox.Screen) ([]*inbox.Receipts, []bool, error) {
	if x.broken.Load() {
		x.failed.Add(1)
		return nil, nil, pim.Errorf(pim.KindUnavailable, "the store fails")
	}
	all, members := make([]*inbox.Receipts, len(users)), make([]bool, len(users))
	for i, u := range users {
		if members[i] = u != "off"; members[i] {
			all[i] = &inbox.Receipts{Read: pim.Seq(x.read.Load())}
		}
	}
	return all, members, nil
}

// Presence shows everybody to everybody but to "off".
func (x *lab) Presence(_ context.Context, _ pim.UserID, lookers []pim.UserID) (pim.Millis, []bool, error) {
	if x.broken.Load() {
		x.failed.Add(1)
		return 0, nil, pim.Errorf(pim.KindUnavailable, "the store fails")
	}
	sees := make([]bool, len(lookers))
	for i, u := range lookers {
		sees[i] = u != "off"
	}
	return 77, sees, nil
}

// Typing lets everybody write and be told but "off".
func (x *lab) Typing(ctx context.Context, _ pim.ConversationID, users []pim.UserID) ([]bool, error) {
	_, may, err := x.Presence(ctx, "", users)
	return may, err
}

func (x *lab) Seen(pim.UserID, pim.Millis) {}

func (x *lab) LastSeen(pim.UserID) pim.Millis { return pim.Millis(x.lately.Load()) }

func (x *lab) Known(context.Context, pim.UserID) (bool, error) { return false, nil }

func (x *lab) Serial(ctx context.Context, _ pim.UserID, _ pim.DeviceID) (uint64, error) {
	if x.greet != nil {
		x.greet(ctx)
	}
	return x.serial, nil
}

func (x *lab) Note(_ pim.UserID, _ pim.DeviceID, _ uint64, acks []inbox.Ack) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.acks = append(x.acks, acks...)
}

func (x *lab) NoteFronts(_ pim.UserID, _ pim.DeviceID, fronts []inbox.Front) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fronts = append(x.fronts, fronts...)
}

func (x *lab) Settle(context.Context, pim.UserID, pim.DeviceID) {}

func (x *lab) Later(pim.UserID, func(context.Context)) {}

// Verify takes "user" for a token of user, as well as "user/name", which has an ID of x.ids.
func (x *lab) Verify(token string, now time.Time) (account.Claims, error) {
	if token == "" || strings.HasPrefix(token, "bad") {
		return account.Claims{}, pim.Errorf(pim.KindUnauthorized, "no such token")
	}
	user, name, _ := strings.Cut(token, "/")
	return account.Claims{
		User: pim.UserID(user), ID: x.ids[name], Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour), Withdrawn: x.withdrawn[token],
	}, nil
}

// push delivers n entries of size bytes to user, as the writers would.
func (x *lab) push(user pim.UserID, n, size int) {
	for i := range n {
		e := pim.Entry{Seq: pim.Seq(i + 1), Anchor: pim.Seq(i + 1), Sender: "other", Device: "d", Payload: make([]byte, size)}
		x.gw.Sessions.Deliver(nil, []conv.Published{{
			Conversation: "g:x", Members: []pim.UserID{user},
			Entries: []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
		}})
	}
}

// peer is the client's end of a connection.
type peer struct {
	t         *testing.T
	nc        net.Conn
	websocket bool
	buf       []byte
}

func (x *lab) dial(websocket bool) *peer {
	x.t.Helper()
	addr := x.l.Addr().String()
	if websocket {
		addr = x.h.Listener.Addr().String()
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { nc.Close() })
	p := &peer{t: x.t, nc: nc, websocket: websocket}
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	if websocket {
		early, _, err := (&ws.Dialer{}).Upgrade(nc, mustURL(x.t, "ws://"+addr+wire.WebSocketPath))
		if err != nil {
			x.t.Fatal(err)
		}
		if early != nil { // the gateway's first bytes came with the upgrade
			p.buf = make([]byte, early.Buffered())
			early.Read(p.buf)
			ws.PutReader(early)
		}
	}
	return p
}

// connect dials and shakes hands.
func (x *lab) connect(websocket bool, user, device string) *peer {
	x.t.Helper()
	p := x.dial(websocket)
	p.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: device})
	expect[*wirepb.Welcome](p)
	return p
}

func (p *peer) send(messages ...wire.Message) {
	p.t.Helper()
	var b []byte
	for _, m := range messages {
		b = append(b, p.frame(wire.Append(nil, m))...)
	}
	p.write(b)
}

func (p *peer) frame(frame []byte) []byte {
	if p.websocket {
		return clientFrame(ws.OpBinary, true, frame)
	}
	return wire.AppendTCP(nil, frame)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message, nil at the end of the connection.
func (p *peer) next() wire.Message {
	p.t.Helper()
	for {
		frame, rest, need := p.cut()
		if need == 0 {
			p.buf = rest
			if frame == nil {
				continue
			}
			_, m, err := wire.Decode(frame)
			if err != nil {
				p.t.Fatal(err)
			}
			return m
		}
		chunk := make([]byte, 32<<10)
		n, err := p.nc.Read(chunk)
		p.buf = append(p.buf, chunk[:n]...)
		if n == 0 && err != nil {
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				p.t.Fatal(err)
			}
			return nil
		}
	}
}

func (p *peer) cut() (frame, rest []byte, need int) {
	if !p.websocket {
		frame, rest, need, err := wire.CutTCP(p.buf, pim.MaxFrame)
		if err != nil {
			p.t.Fatal(err)
		}
		return frame, rest, need
	}
	r := bytes.NewReader(p.buf)
	h, err := ws.ReadHeader(r)
	if err != nil || int64(r.Len()) < h.Length {
		return nil, p.buf, len(p.buf) + 1
	}
	at := len(p.buf) - r.Len()
	frame, rest = p.buf[at:at+int(h.Length)], p.buf[at+int(h.Length):]
	if h.OpCode != ws.OpBinary {
		return nil, rest, 0
	}
	return frame, rest, 0
}

// expect returns the next message, which must be a T.
func expect[T wire.Message](p *peer) T {
	p.t.Helper()
	m := p.next()
	got, ok := m.(T)
	if !ok {
		var want T
		p.t.Fatalf("got %T %v, want %T", m, m, want)
	}
	return got
}

// closedWith reads up to the PIMGoAway and checks its code, then the end.
func (p *peer) closedWith(code wire.Code) {
	p.t.Helper()
	for {
		switch m := p.next().(type) {
		case nil:
			p.t.Fatalf("closed without a word, want %s", code)
		case *wirepb.PIMGoAway:
			if m.Code != uint32(code) || m.Reconnect != code.Reconnect() {
				p.t.Fatalf("closed with %v, want %s", m, code)
			}
			if rest := p.next(); rest != nil {
				p.t.Fatalf("%v after the last frame", rest)
			}
			return
		}
	}
}

func sendReq(n byte, payload string) *wirepb.PIMSendReq {
	return &wirepb.PIMSendReq{Conversation: "d:a:b", ClientMessageId: bytes.Repeat([]byte{n}, 16), Payload: []byte(payload)}
}

// framingOf returns the framing of a peer.
func framingOf(websocket bool) framing {
	if websocket {
		return webSocket
	}
	return lengths
}

// both runs a test over TCP and over WebSocket.
func both(t *testing.T, f func(t *testing.T, websocket bool)) {
	t.Run("TCP", func(t *testing.T) { f(t, false) })
	t.Run("WebSocket", func(t *testing.T) { f(t, true) })
}

var _ http.Handler = (*Gateway)(nil)
