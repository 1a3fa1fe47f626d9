//go:build linux || darwin

package transport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnsent keeps the kernel from taking much more than the network takes. Bytes that
// the kernel has taken count as written, and from then on an answer is awaited.
func boundUnsent(conn net.Conn) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return // a network of the app's own
	}
	if raw, err := sc.SyscallConn(); err == nil {
		// A kernel without this option takes more, as it does without this call.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 2*writeChunk)
		})
	}
}
