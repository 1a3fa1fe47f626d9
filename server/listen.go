package server

import (
	"context"
	"net"

	"github.com/pim-im/pim"
)

// Listeners are where a server takes connections.
type Listeners struct {
	HTTP  net.Listener
	TCP   net.Listener // nil if raw TCP is off
	Pprof net.Listener // nil if the profiler is off
}

// Listen listens on the addresses of c; ctx bounds the look-up of names. The error
// is of KindInvalid, and then nothing listens. `pim serve` listens before it makes
// anything on disk: a server that cannot have its addresses leaves nothing behind.
func Listen(ctx context.Context, c Config) (*Listeners, error) {
	// No TCP keep-alives, every 15 s by default: they would wake phones, and keep
	// alive what heartbeats are to find out the patience of. Who is silent is closed
	// by the gateway's limits, and by the HTTP server's.
	lc := net.ListenConfig{KeepAlive: -1}
	l := new(Listeners)
	for _, x := range []struct {
		to         *net.Listener
		addr, what string
	}{{&l.HTTP, c.Listen, "HTTP"}, {&l.TCP, c.ListenTCP, "TCP"}, {&l.Pprof, c.PprofListen, "pprof"}} {
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

// Close ends them. It may be called more than once, and after a server has.
func (l *Listeners) Close() {
	for _, x := range []net.Listener{l.HTTP, l.TCP, l.Pprof} {
		if x != nil {
			x.Close()
		}
	}
}
