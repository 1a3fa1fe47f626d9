//go:build !unix

package gateway

import (
	"net"
	"syscall"
)

// rawConn returns nil: every connection holds a buffer while it waits.
func rawConn(net.Conn) syscall.RawConn { return nil }

func readFile(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.EINVAL } // never called

func writeFile(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.EINVAL } // never called
