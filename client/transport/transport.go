// Package transport carries frames over WebSocket, TCP and QUIC.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/quic-go/quic-go"
)

// Conn is a connection that carries frames. One goroutine may call Read while another
// calls Write; Close may be called at any time, more than once, and makes both
// return.
type Conn interface {
	// Read returns the next frame, which is valid until the next Read. An error
	// is final; it is a *CloseError if the server said why.
	Read() ([]byte, error)
	// Write transmits frames in order. It fails when the network has taken nothing
	// for WriteTimeout; an error is final.
	Write(frames [][]byte) error
	// Written returns when the network last took bytes. It may be called at any time.
	Written() time.Time
	// Arriving returns when bytes last came of a frame that is not complete yet; the
	// zero time if no frame is on its way. It may be called at any time.
	Arriving() time.Time
	Close() error
}

// arrival is when bytes last came of a frame that is not complete; nil if there is none.
type arrival struct{ at atomic.Pointer[time.Time] }

func (a *arrival) more() {
	now := time.Now()
	a.at.Store(&now)
}

func (a *arrival) done() { a.at.Store(nil) }

// Arriving implements Conn.
func (a *arrival) Arriving() time.Time {
	if at := a.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// WriteTimeout is how long a Write waits while the network takes no bytes.
const WriteTimeout = 10 * time.Second

// writeChunk is how many bytes are written at a time: few enough that progress shows
// within WriteTimeout even at 1 kB/s.
const writeChunk = 4 << 10

// departure is the network connection below everything else, TLS and WebSocket included.
// A Write may take as long as it needs, provided that some bytes go out within every
// WriteTimeout.
type departure struct {
	net.Conn
	at atomic.Pointer[time.Time] // when bytes last went out
}

func newDeparture(conn net.Conn) *departure {
	boundUnsent(conn)
	d := &departure{Conn: conn}
	d.more()
	return d
}

func (d *departure) more() {
	now := time.Now()
	d.at.Store(&now)
}

// Write implements net.Conn.
func (d *departure) Write(p []byte) (int, error) {
	done := 0
	for {
		if err := d.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
			return done, err
		}
		n, err := d.Conn.Write(p[done:min(len(p), done+writeChunk)])
		done += n
		if n > 0 {
			d.more()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
		}
		if err != nil || done >= len(p) {
			return done, err
		}
	}
}

// readLimit is the size of the largest frame that is read.
const readLimit = pim.MaxFrame

// CloseError says that the server closed the connection with a code.
type CloseError struct {
	Code wire.Code
	Text string
}

// Error returns the code's name and the server's text.
func (e *CloseError) Error() string {
	return fmt.Sprintf("closed by the server: %s %s", e.Code, e.Text)
}

// Dialer dials one server. It is safe for concurrent use.
type Dialer struct {
	address string // the URL of a WebSocket, else host:port
	tls     *tls.Config
	web     bool // a WebSocket, else TCP or QUIC
	quic    bool
	proxy   func(*http.Request) (*url.URL, error)
	dial    DialFunc
	own     bool            // dial is the app's
	tokens  quic.TokenStore // that QUIC servers have given, which spare a round trip when these are busy
}

// DialFunc makes the network connection below everything else, as net.Dialer.DialContext
// does. For QUIC, network is "udp".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewDialer returns a Dialer for server: http(s)://, ws(s)://, tcp://, tls:// or quic://
// and host:port; the first two may have a path, which comes before
// wire.WebSocketPath. TLS 1.3 is the minimum, whatever config says. If dial is not
// nil, it makes the connections, and no proxy is used.
func NewDialer(server string, config *tls.Config, dial DialFunc) (*Dialer, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "server %q is not a URL: %w", server, err)
	}
	if u.Hostname() == "" {
		return nil, pim.Errorf(pim.KindInvalid, "server %q has no host; it looks like http://host:port or tcp://host:port", server)
	}
	d := &Dialer{tls: atLeast13(config), dial: dial, own: dial != nil}
	if dial == nil {
		d.proxy = http.ProxyFromEnvironment
		// The engine fits its heartbeats to the network. The kernel's keep-alive probes,
		// every 15 s by Go's default, would wake a phone's radio, and would keep a path
		// open whose idle limit the heartbeats are to find out.
		d.dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	switch u.Scheme {
	case "http", "ws", "https", "wss":
		d.address, d.web = u.JoinPath(wire.WebSocketPath).String(), true
		return d, nil
	case "tcp":
		d.tls = nil
	case "tls":
	case "quic":
		d.quic = true
		d.quicTLS()
	default:
		return nil, pim.Errorf(pim.KindInvalid, "server %q: scheme %q is none of http, https, ws, wss, tcp, tls, quic", server, u.Scheme)
	}
	if u.Port() == "" {
		return nil, pim.Errorf(pim.KindInvalid, "server %q has no port", server)
	}
	if d.address = u.Host; d.tls != nil && d.tls.ServerName == "" {
		d.tls.ServerName = u.Hostname()
	}
	return d, nil
}

func atLeast13(config *tls.Config) *tls.Config {
	if config == nil {
		config = new(tls.Config)
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS13)
	return config
}

// Dial connects. ctx bounds the dialling, not the connection. If the two sides do not agree about
// TLS the error has a *TLSError in it.
func (d *Dialer) Dial(ctx context.Context) (Conn, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, d.explain(err)
	}
	return conn, nil
}

// Direct reports whether connections go to the server itself: neither through a proxy that the environment names
// nor by the app's DialFunc.
func (d *Dialer) Direct() bool {
	if d.own || !d.web {
		return !d.own
	}
	u, err := url.Parse(d.address)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	through, err := d.proxy(&http.Request{URL: u})
	return err == nil && through == nil
}

func (d *Dialer) connect(ctx context.Context) (Conn, error) {
	if d.web {
		return d.dialWebSocket(ctx)
	}
	if d.quic {
		return d.dialQUIC(ctx)
	}
	conn, err := d.dial(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	t := newTCP(conn)
	if d.tls != nil {
		secured := tls.Client(t.line, d.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		t.conn = secured
	}
	return t, nil
}
