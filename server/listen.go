package server

import (
	"context"
	"net"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// Listeners are where a server takes connections.
type Listeners struct {
	HTTP  net.Listener
	TCP   net.Listener   // nil if raw TCP is off, or the node is no gateway
	Pprof net.Listener   // nil if the profiler is off
	QUIC  net.PacketConn // nil if QUIC is off, there is no TLS, the node is no gateway, or the port cannot be had

	Metrics net.Listener // nil if /metrics has no address of its own

	quicErr error // why the port cannot be had
}

// Listen listens on the addresses of c; ctx bounds the look-up of names. If one fails it
// closes the others and returns an error of KindInvalid, but not for QUIC. `pim serve` listens before it makes
// anything on disk, so that a server that cannot have its addresses leaves nothing behind.
func Listen(ctx context.Context, c Config) (*Listeners, error) {
	for try := 1; ; try++ {
		l, err := listen(ctx, c)
		if err != nil || !c.wantsQUIC() {
			return l, err
		}
		l.listenQUIC(ctx)
		if _, port, _ := net.SplitHostPort(c.Listen); l.quicErr == nil || port != "0" || try == quicTries {
			return l, nil
		}
		l.Close() // another port may be free for both
	}
}

// listen is Listen without QUIC.
func listen(ctx context.Context, c Config) (*Listeners, error) {
	// No TCP keep-alives, which Go sends every 15 s by default. They would wake phones,
	// and keep connections open in middleboxes whose patience the heartbeats must find
	// out. The limits of the gateway and of the HTTP server close silent connections.
	lc := net.ListenConfig{KeepAlive: -1}
	l := new(Listeners)
	tcp := c.ListenTCP
	if !c.has(bus.RoleGateway) {
		tcp = ""
	}
	for _, x := range []struct {
		to         *net.Listener
		addr, what string
	}{{&l.HTTP, c.Listen, "HTTP"}, {&l.TCP, tcp, "TCP"}, {&l.Pprof, c.PprofListen, "pprof"}, {&l.Metrics, c.MetricsListen, "metrics"}} {
		if x.addr == "" && x.to != &l.HTTP {
			continue
		}
		opened, err := lc.Listen(ctx, "tcp", x.addr)
		if err != nil {
			l.Close()
			return nil, pim.Errorf(pim.KindInvalid, "listen for %s: %w", x.what, err)
		}
		*x.to = opened
	}
	return l, nil
}

// Close closes the listeners. It may be called again, and after a server has closed them.
func (l *Listeners) Close() {
	for _, x := range []net.Listener{l.HTTP, l.TCP, l.Pprof, l.Metrics} {
		if x != nil {
			x.Close()
		}
	}
	if l.QUIC != nil {
		l.QUIC.Close()
	}
}
