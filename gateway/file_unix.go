//go:build unix

package gateway

import (
	"net"
	"syscall"
)

// rawConn returns nc's file descriptor, on which bytes can be awaited without a buffer; nil
// if nc does not give it out.
func rawConn(nc net.Conn) syscall.RawConn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
