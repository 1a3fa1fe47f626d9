package load

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// link is one connection, as bytes and frames. Sync, and what comes before serve, use
// send and receive; serve reads until the connection ends. One goroutine reads. Whoever
// writes must make sure that nobody else writes at the same time.
type link struct {
	framing
	nc   net.Conn
	raw  syscall.RawConn
	left []byte // read but not yet handled: the beginning of a frame

	received, written int64 // bytes of the frames that receive and send have handled
}

// dialTimeout bounds the opening of a connection, one receive, and one reading of the
// metrics. It is long because a server that takes 10,000 connections is busy.
const dialTimeout = 30 * time.Second

// dial connects to server. Unless server is tcp://, it upgrades to WebSocket at path.
func dial(ctx context.Context, server, path string) (*link, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "server %q: %w", server, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "connecting: %w; is the server running?", err)
	}
	l := &link{nc: nc}
	if u.Scheme != "tcp" {
		if err := l.upgrade(ctx, u.Host, path); err != nil {
			nc.Close()
			return nil, err
		}
	}
	if l.raw, err = nc.(*net.TCPConn).SyscallConn(); err != nil {
		nc.Close()
		return nil, pim.Errorf(pim.KindInternal, "connecting: %w", err)
	}
	return l, nil
}

func (l *link) upgrade(ctx context.Context, host, path string) error {
	d := ws.Dialer{
		NetDial: func(context.Context, string, string) (net.Conn, error) { return l.nc, nil },
		Header:  ws.HandshakeHeaderHTTP(http.Header{"User-Agent": {agent}}),
	}
	_, early, _, err := d.Dial(ctx, "ws://"+host+path)
	if err != nil {
		return pim.Errorf(pim.KindUnavailable, "WebSocket upgrade: %w", err)
	}
	if early != nil { // bytes that came in the same read as the upgrade's answer
		l.left, _ = early.Peek(early.Buffered())
	}
	l.framing = wsFraming
	return nil
}

const (
	agent  = "pim-load"
	device = pim.DeviceID("load")
)

// hello opens the session and returns the server's answer.
func (l *link) hello(cfg *Config, user pim.UserID, d pim.DeviceID, serial uint64) (*wirepb.Welcome, error) {
	token, err := cfg.Token(user)
	if err != nil {
		return nil, pim.Errorf(pim.KindUnauthorized, "a token for %s: %w", user, err)
	}
	err = l.send(&wirepb.Hello{Version: wire.Version, Token: token, Device: string(d), AckSerial: serial, Agent: agent})
	if err != nil {
		return nil, err
	}
	return await[*wirepb.Welcome](l)
}

// appendFrame appends the frame with body m to dst, as it goes over the wire.
func (l *link) appendFrame(dst []byte, m wire.Message) []byte {
	dst, start := l.begin(dst, 1+m.SizeVT(), ws.OpBinary)
	dst = wire.Append(dst, m)
	l.end(dst, start)
	return dst
}

// send writes one frame.
func (l *link) send(m wire.Message) error {
	b := l.appendFrame(nil, m)
	l.written += int64(len(b))
	_, err := l.nc.Write(b)
	return broken(err)
}

// receive waits for the next frame that this version knows.
func (l *link) receive() (wire.Message, error) {
	l.nc.SetReadDeadline(time.Now().Add(dialTimeout))
	defer l.nc.SetReadDeadline(time.Time{})
	for {
		op, frame, rest, err := l.cut(l.left)
		if err != nil {
			return nil, err
		}
		if frame == nil {
			if err := l.readMore(); err != nil {
				return nil, err
			}
			continue
		}
		l.received += int64(len(l.left) - len(rest))
		m, err := l.decode(op, frame)
		l.left = rest
		if m != nil || err != nil {
			return m, err
		}
	}
}

func (l *link) decode(op ws.OpCode, frame []byte) (wire.Message, error) {
	if op == ws.OpClose {
		return nil, broken(io.EOF)
	}
	if op != ws.OpBinary {
		return nil, nil
	}
	_, m, err := wire.Decode(frame)
	if goAway, ok := m.(*wirepb.PIMGoAway); ok {
		return nil, pim.Errorf(pim.KindUnavailable, "the server closes the connection: %s (%s)", goAway.Text, wire.Code(goAway.Code))
	}
	return m, err
}

func (l *link) readMore() error {
	var buf [16 << 10]byte
	n, err := l.nc.Read(buf[:])
	l.left = append(l.left, buf[:n]...)
	if n > 0 {
		return nil
	}
	return broken(err)
}

// await waits for an answer of type M. It drops frames of other types that come before,
// but returns a PIMError as an error.
func await[M wire.Message](l *link) (M, error) {
	for {
		m, err := l.receive()
		if err != nil {
			var none M
			return none, err
		}
		if want, ok := m.(M); ok {
			return want, nil
		}
		if e, ok := m.(*wirepb.PIMError); ok {
			var none M
			return none, wire.ErrorOf(e)
		}
	}
}

// broken wraps err as the failure of a connection (KindUnavailable); nil stays nil.
func broken(err error) error {
	if err == nil {
		return nil
	}
	return pim.Errorf(pim.KindUnavailable, "the connection broke: %w", err)
}

// handler takes the frames that serve reads. For each read, serve calls wake, then frame
// for each whole frame, then flush, also after an error. f is valid until frame returns.
type handler interface {
	wake()
	frame(f []byte) error
	flush() error
}

// serve reads frames and hands them to h until the link is closed or h returns
// an error. It takes a buffer only when there is something to read. If a read left room
// in the buffer and no part of a frame, serve waits at once: another read would find
// nothing. (So serve may miss the end of a connection that the server closes in the same
// moment as it sends its last frame. A PIMGoAway comes before such an end.)
func (l *link) serve(h handler) error {
	if len(l.left) > 0 {
		early := append([]byte(nil), l.left...)
		if err := l.handle(early, h); err != nil {
			return err
		}
	}
	var failed error
	err := l.raw.Read(func(fd uintptr) bool {
		for {
			var more bool
			if more, failed = l.take(fd, h); failed != nil {
				return true
			}
			if !more {
				return false
			}
		}
	})
	if failed != nil {
		return failed
	}
	return broken(err)
}

const readSize = 64 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// take reads once and hands on what came; more is set if there may be more to read.
func (l *link) take(fd uintptr, h handler) (more bool, err error) {
	pooled := readBuffers.Get().(*[readSize]byte)
	defer readBuffers.Put(pooled)
	buf := pooled[:]
	if len(l.left) > readSize/2 { // a large frame
		buf = make([]byte, pim.MaxFrame+readSize)
	}
	had := copy(buf, l.left)
	n, err := readFD(fd, buf[had:])
	switch {
	case err == syscall.EAGAIN:
		return false, nil
	case err != nil:
		return false, broken(err)
	case n == 0:
		return false, broken(io.EOF)
	}
	err = l.handle(buf[:had+n], h)
	return had+n == len(buf) || len(l.left) > 0, err
}

// handle hands the whole frames in buf to h and keeps the rest.
func (l *link) handle(buf []byte, h handler) error {
	h.wake()
	rest, err := l.split(buf, h)
	l.left = append(l.left[:0], rest...)
	return cmp.Or(err, h.flush())
}

func (l *link) split(buf []byte, h handler) (rest []byte, err error) {
	for {
		op, frame, rest, err := l.cut(buf)
		if err != nil || frame == nil {
			return rest, err
		}
		buf = rest
		switch op {
		case ws.OpBinary:
			err = h.frame(frame)
		case ws.OpClose:
			err = broken(io.EOF)
		}
		if err != nil {
			return nil, err
		}
	}
}
