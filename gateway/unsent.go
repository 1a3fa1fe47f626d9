//go:build linux || darwin

package gateway

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnsent keeps the kernel from taking much more than the network does. It would
// take megabytes at once, which a slow client needs minutes for: until it had made
// room, the writes of a connection that goes on well would seem to be stuck, and each
// such connection would hold that memory, out of sight.
func boundUnsent(nc net.Conn) {
	if secured, ok := nc.(*tls.Conn); ok {
		nc = secured.NetConn()
	}
	if proxied, ok := nc.(proxiedConn); ok {
		nc = proxied.Raw()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		// A kernel that cannot do it takes more, as it would without asking.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, writeStep/2)
		})
	}
}
