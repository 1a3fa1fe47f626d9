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

// readFile reads once; the number is 0 at the end, and with an error.
func readFile(fd uintptr, b []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), b)
	if err != nil {
		errno, _ := err.(syscall.Errno)
		return 0, max(errno, 1) // it is always one, never 0
	}
	return n, 0
}

func writeFile(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
