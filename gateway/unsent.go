//go:build linux || darwin

package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnsent keeps the kernel from taking much more than the network does. Without it the
// kernel takes megabytes at once, for which a slow client needs minutes. Meanwhile the
// next write would seem to be stuck although the connection is sound, and each such
// connection would hold memory that the gateway does not count.
func boundUnsent(nc net.Conn) {
	sc, ok := socket(nc).(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		// An error is ignored: the kernel then takes as much as without the option.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, writeStep/2)
		})
	}
}
