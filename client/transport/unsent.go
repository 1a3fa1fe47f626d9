//go:build linux || darwin

package transport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnsent keeps the kernel from taking much more than the network does: what it
// has taken counts as written, and an answer is awaited from then on.
func boundUnsent(conn net.Conn) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return // a network of the app's own
	}
	if raw, err := sc.SyscallConn(); err == nil {
		// A kernel that cannot do it takes more, as it would without asking.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 2*writeChunk)
		})
	}
}
