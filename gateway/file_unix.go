//go:build unix

package gateway

import (
	"net"
	"syscall"
)

// rawConn returns nc's file, on which bytes can be awaited without a buffer; nil if
// it has none.
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
