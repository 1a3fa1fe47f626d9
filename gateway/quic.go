package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/quic-go/quic-go"
)

const (
	// quicFirstWindow is how many bytes a QUIC client may send before anything of it was read: more
	// than a Hello has.
	quicFirstWindow = 32 << 10
	// quicWindow is how many bytes of a connection wait at most to be read.
	quicWindow = 256 << 10
	// mostUnproven is how many QUIC handshakes may be under way with clients that have not shown
	// that they get what is sent to their address. With more, the next ones must show it first.
	mostUnproven = 64
)

// QUIC takes QUIC connections from one UDP socket. On each the client opens one stream, which
// carries frames as TCP does.
type QUIC struct {
	gw       *Gateway
	tr       *quic.Transport
	listener *quic.Listener
	unproven atomic.Int64 // handshakes under way with addresses that may be forged
}

// ListenQUIC prepares to take QUIC connections from packets, with the certificates of conf. reset
// is a secret of this node that stays over restarts: by it clients of a former process learn at once
// that their connections are gone. Close must be called, and closes packets, but not if there is an error.
func (g *Gateway) ListenQUIC(packets net.PacketConn, conf *tls.Config, reset [32]byte) (*QUIC, error) {
	q := &QUIC{gw: g}
	key := quic.StatelessResetKey(reset)
	q.tr = &quic.Transport{
		Conn:                packets,
		ConnectionIDLength:  8,
		StatelessResetKey:   &key,
		VerifySourceAddress: q.mustProve,
		ConnContext:         q.greet,
	}
	conf = conf.Clone()
	conf.NextProtos = []string{wire.QUICProtocol}
	l := &g.Limits
	var err error
	q.listener, err = q.tr.Listen(conf, &quic.Config{
		HandshakeIdleTimeout:           l.Handshake / 2, // twice this is the bound for the whole handshake
		MaxIdleTimeout:                 max(l.Idle, l.Heartbeat+beatGrace) + time.Minute,
		InitialStreamReceiveWindow:     quicFirstWindow,
		MaxStreamReceiveWindow:         quicWindow,
		InitialConnectionReceiveWindow: quicFirstWindow,
		MaxConnectionReceiveWindow:     quicWindow,
		AllowConnectionWindowIncrease:  func(*quic.Conn, uint64) bool { return !g.memory.above.Load() },
		MaxIncomingStreams:             1,
		MaxIncomingUniStreams:          -1, // none
	})
	if err != nil {
		q.tr.Close()
		return nil, err
	}
	return q, nil
}

// quicGuest is a connection from its first packet until it is served, in the context of its
// quic.Conn.
type quicGuest struct {
	listener *QUIC
	unproven atomic.Bool // it counts in QUIC.unproven
	settled  atomic.Bool // it is served, or has ended: it counts in Gateway.open for somebody else, or no more
}

type quicGuestKey struct{}

// mustProve reports whether a client has to show that it gets what is sent to its address before it is heeded (Retry of
// RFC 9000). That costs it a round trip, so it is asked only while many have not shown it.
func (q *QUIC) mustProve(net.Addr) bool { return q.unproven.Load() >= mostUnproven }

// prove notes that the client gets what is sent to its address, or has gone.
func (q *quicGuest) prove() {
	if q.unproven.CompareAndSwap(true, false) {
		q.listener.unproven.Add(-1)
	}
}

var errQUICRefused = errors.New("turned away")

// greet asks whether a client is let in whose first packet has come, before anything is done for it.
// It must not wait: all packets that begin connections wait for it.
func (q *QUIC) greet(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	g := q.gw
	v := g.admit()
	if !v.Refused() {
		if v = g.enter(g.Proxies.source(info.RemoteAddr.String())); v.Refused() {
			g.open.Add(-1)
		}
	}
	if v.Refused() {
		g.Metrics.refused(v)
		return nil, errQUICRefused
	}
	guest := &quicGuest{listener: q}
	if !info.AddrVerified {
		guest.unproven.Store(true)
		q.unproven.Add(1)
	}
	context.AfterFunc(ctx, func() {
		guest.prove()
		if guest.settled.CompareAndSwap(false, true) {
			g.open.Add(-1)
			g.quicFailed(context.Cause(ctx))
		}
	})
	return context.WithValue(ctx, quicGuestKey{}, guest), nil
}

// quicFailed counts a handshake that failed because of TLS.
func (g *Gateway) quicFailed(err error) {
	var e *quic.TransportError
	if !errors.As(err, &e) || !e.ErrorCode.IsCryptoError() {
		return
	}
	reason := tlsOther
	if alert := e.ErrorCode & 0xff; e.Remote && 42 <= alert && alert <= 48 { // of RFC 8446, section 6.2: about the certificate
		reason = tlsRefused
	}
	g.Metrics.tls.WithLabelValues(reason).Inc()
}

// Serve takes connections until Refuse or Close is called.
func (q *QUIC) Serve() error {
	for {
		conn, err := q.listener.Accept(q.gw.ctx)
		if err != nil {
			if errors.Is(err, quic.ErrServerClosed) || errors.Is(err, net.ErrClosed) || q.gw.ctx.Err() != nil {
				return nil
			}
			return err
		}
		guest := conn.Context().Value(quicGuestKey{}).(*quicGuest)
		guest.prove()
		if !guest.settled.CompareAndSwap(false, true) {
			continue // it has ended
		}
		if !q.gw.start(func() { q.gw.serveQUIC(conn) }) {
			q.gw.open.Add(-1)
			conn.CloseWithError(0, "")
		}
	}
}

// serveQUIC waits for the stream that the client opens, and serves it.
func (g *Gateway) serveQUIC(conn *quic.Conn) {
	ctx, cancel := context.WithTimeout(g.greeting, g.Limits.Handshake)
	stream, err := conn.AcceptStream(ctx)
	cancel()
	if err != nil {
		conn.CloseWithError(0, "")
		g.open.Add(-1)
		return
	}
	g.serve(&quicLine{stream, conn}, "", lengths, nil)
}

// Refuse lets nobody in any more. Those who are served stay.
func (q *QUIC) Refuse() { q.listener.Close() }

// Close ends all connections without a word, and closes the socket. The gateway's Close, before it,
// closes them in order.
func (q *QUIC) Close() {
	q.listener.Close()
	q.tr.Close()
	q.tr.Conn.Close()
}

// Addr returns the address of the socket.
func (q *QUIC) Addr() net.Addr { return q.tr.Conn.LocalAddr() }

// quicLine is the stream of a QUIC connection as a net.Conn.
type quicLine struct {
	*quic.Stream
	conn *quic.Conn
}

// Read implements net.Conn. That the client has closed the connection is the end of the stream.
func (l *quicLine) Read(b []byte) (int, error) {
	n, err := l.Stream.Read(b)
	var closed *quic.ApplicationError
	if errors.As(err, &closed) && closed.Remote {
		err = io.EOF
	}
	return n, err
}

// LocalAddr implements net.Conn.
func (l *quicLine) LocalAddr() net.Addr { return l.conn.LocalAddr() }

// RemoteAddr implements net.Conn. The address changes when the client moves.
func (l *quicLine) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// CloseWrite closes the way to the client.
func (l *quicLine) CloseWrite() error { return l.Stream.Close() }

// Close closes the connection at once. What is under way to the client is lost, see conn.part.
func (l *quicLine) Close() error { return l.conn.CloseWithError(0, "") }

// part waits after the last frame until the client has closed the connection, for lingerTime at
// most: QUIC has no kernel that goes on sending for a connection that is closed.
func (c *conn) part() {
	l, ok := c.nc.(*quicLine)
	if !ok || l.CloseWrite() != nil {
		return
	}
	t := time.NewTimer(c.gw.linger)
	defer t.Stop()
	select {
	case <-l.conn.Context().Done():
	case <-t.C:
	case <-c.gw.ctx.Done():
	}
}

// The names of transports, as Farewell and metrics have them.
const (
	TransportTCP       = "tcp"
	TransportWebSocket = "websocket"
	TransportQUIC      = "quic"
)

// transport returns the name of c's transport.
func (c *conn) transport() string {
	if c.framing == webSocket {
		return TransportWebSocket
	}
	if _, ok := c.nc.(*quicLine); ok {
		return TransportQUIC
	}
	return TransportTCP
}
