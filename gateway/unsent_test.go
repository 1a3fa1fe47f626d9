//go:build linux || darwin

package gateway

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel takes little more than the client does, so that the gateway sees how
// the client gets on, and holds what is left within its own bounds.
func TestKernelTakesNoMoreThanTheClient(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		const n, size = 64, 60 << 10
		x := newLab(t, func(l *Limits) { l.QueueBytes = n * (size + 1024) })
		p := x.connect(websocket, "alice", "phone")
		if err := p.nc.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		x.push("alice", n, size)
		c := x.conn("alice")
		x.eventually("the connection's socket is full", func() bool {
			since := c.writing.Load()
			return since != 0 && x.gw.elapsed()-since > 100
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		if taken := n*size - c.unsent(); taken > n*size/4 {
			t.Errorf("%d bytes are on their way to a client that reads nothing", taken)
		}
	})
}

// However a connection is wrapped, its socket gets the bound.
func TestSocketIsBound(t *testing.T) {
	x := newLab(t, nil)
	trusted := proxies(t, "127.0.0.0/8")
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"plain":                 func(l net.Listener) net.Listener { return l },
		"PROXY protocol":        func(l net.Listener) net.Listener { return trusted.Listen(l, time.Minute) },
		"PROXY protocol, HTTPS": func(l net.Listener) net.Listener { return x.gw.Screen(trusted.Listen(l, time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			kept := &lastAccepted{Listener: raw}
			client, err := net.Dial("tcp", raw.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			nc, err := wrap(kept).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			boundUnsent(withTLS(nc, &tls.Config{}))
			sc, err := kept.last.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var bytes int
			var optErr error
			if err := sc.Control(func(fd uintptr) {
				bytes, optErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
			}); err != nil || optErr != nil {
				t.Fatal(err, optErr)
			}
			if bytes != writeStep/2 {
				t.Errorf("the kernel may hold %d bytes, want %d", bytes, writeStep/2)
			}
		})
	}
}

// lastAccepted keeps the connection that was accepted last.
type lastAccepted struct {
	net.Listener
	last net.Conn
}

func (l *lastAccepted) Accept() (nc net.Conn, err error) {
	l.last, err = l.Listener.Accept()
	return l.last, err
}
