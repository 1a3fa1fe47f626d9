package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/quic-go/quic-go"
)

const (
	// quicWindow is how many bytes of a QUIC connection wait at most to be read.
	quicWindow = 1 << 20
	// quicIdle is after how long without a packet a QUIC connection ends by itself: longer than any
	// heartbeat, since it is the engine that finds out whether the server still answers.
	quicIdle = 15 * time.Minute
	// quicParting is how long Close waits until the server has what was written.
	quicParting = 250 * time.Millisecond
)

// dialQUIC opens a QUIC connection on a UDP socket of its own, and on it the stream that carries frames.
func (d *Dialer) dialQUIC(ctx context.Context) (Conn, error) {
	packets, to, err := d.packets(ctx)
	if err != nil {
		return nil, err
	}
	line := &quicLine{tr: &quic.Transport{Conn: packets}}
	line.conn, err = line.tr.Dial(ctx, to, d.tls, &quic.Config{
		HandshakeIdleTimeout:           WriteTimeout,
		MaxIdleTimeout:                 quicIdle,
		MaxStreamReceiveWindow:         quicWindow,
		MaxConnectionReceiveWindow:     quicWindow,
		InitialStreamReceiveWindow:     quicWindow / 4,
		InitialConnectionReceiveWindow: quicWindow / 4,
		MaxIncomingStreams:             -1, // none
		MaxIncomingUniStreams:          -1,
		TokenStore:                     d.tokens,
	})
	if err == nil {
		line.Stream, err = line.conn.OpenStreamSync(ctx)
	}
	if err != nil {
		line.end()
		return nil, err
	}
	return newTCP(line), nil
}

// packets opens a UDP socket for a connection to d.address. The system's own is not bound to the address that the
// machine has now: when that changes, packets leave from the new one, and the connection goes on.
func (d *Dialer) packets(ctx context.Context) (net.PacketConn, net.Addr, error) {
	if d.own {
		conn, err := d.dial(ctx, "udp", d.address)
		if err != nil {
			return nil, nil, err
		}
		return &dialledPackets{conn}, conn.RemoteAddr(), nil
	}
	to, err := routed(ctx, d.address)
	if err != nil {
		return nil, nil, err
	}
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, nil, err
	}
	return plainPackets{conn}, net.UDPAddrFromAddrPort(to), nil
}

// routed returns the first address of host:port to which this machine has a route.
func routed(ctx context.Context, address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range found {
		to := netip.AddrPortFrom(ip.Unmap(), uint16(number))
		var probe *net.UDPConn
		if probe, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err == nil { // no packet is sent
			probe.Close()
			return to, nil
		}
	}
	return netip.AddrPort{}, err
}

// plainPackets keeps from package quic that a socket is the system's: it would enlarge its buffers, and write to standard
// error if it may not. A client needs no large ones.
type plainPackets struct{ net.PacketConn }

// SetReadBuffer leaves the buffer as it is.
func (plainPackets) SetReadBuffer(int) error { return nil }

// SetWriteBuffer leaves the buffer as it is.
func (plainPackets) SetWriteBuffer(int) error { return nil }

// dialledPackets is a connection that Options.Dial has made, whose every Read and Write is one packet.
type dialledPackets struct{ net.Conn }

// ReadFrom implements net.PacketConn.
func (c *dialledPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (c *dialledPackets) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// SetReadBuffer leaves the buffer as it is.
func (*dialledPackets) SetReadBuffer(int) error { return nil }

// SetWriteBuffer leaves the buffer as it is.
func (*dialledPackets) SetWriteBuffer(int) error { return nil }

// quicLine is the stream of a QUIC connection as a net.Conn.
type quicLine struct {
	*quic.Stream
	conn *quic.Conn
	tr   *quic.Transport

	writing sync.Mutex // held by Write, and by what ends all writing
	once    sync.Once
}

// Read implements net.Conn. That the server has closed the connection is the end of the stream.
func (l *quicLine) Read(b []byte) (int, error) {
	n, err := l.Stream.Read(b)
	var closed *quic.ApplicationError
	if errors.As(err, &closed) && closed.Remote {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (l *quicLine) Write(b []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.Stream.Write(b)
}

// LocalAddr implements net.Conn.
func (l *quicLine) LocalAddr() net.Addr { return l.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (l *quicLine) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// Close implements net.Conn. No kernel goes on sending for a QUIC connection that is closed. So Close ends what was
// written, and waits for quicParting at most until the server has that, and closes the connection, unless a
// Write is stuck.
func (l *quicLine) Close() error {
	l.once.Do(func() {
		l.Stream.SetReadDeadline(time.Unix(1, 0))
		if l.writing.TryLock() {
			l.Stream.Close()
			l.writing.Unlock()
			t := time.NewTimer(quicParting)
			defer t.Stop()
			select {
			case <-l.conn.Context().Done():
			case <-t.C:
			}
		}
		l.end()
	})
	return nil
}

// OverUDP reports whether c is a connection over UDP: of QUIC. Middleboxes forget those sooner than TCP's.
func OverUDP(c Conn) bool {
	t, ok := c.(*tcp)
	if ok {
		_, ok = t.line.Conn.(*quicLine)
	}
	return ok
}

// end closes the connection, if there is one, and its socket, at once.
func (l *quicLine) end() {
	if l.conn != nil {
		l.conn.CloseWithError(0, "")
	}
	l.tr.Close()
	l.tr.Conn.Close()
}

// quicTLS returns what Dial needs of d.tls for QUIC.
func (d *Dialer) quicTLS() {
	d.tls.NextProtos = []string{wire.QUICProtocol}
	d.tokens = quic.NewLRUTokenStore(1, 4)
}
