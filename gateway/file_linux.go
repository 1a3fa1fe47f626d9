//go:build !race

package gateway

import (
	"syscall"
	"unsafe"
)

// readFile reads once from a non-blocking file descriptor. The number of bytes is 0 at the
// end and with an error.
func readFile(fd uintptr, b []byte) (int, syscall.Errno) { return call(syscall.SYS_READ, fd, b) }

// writeFile writes once to a non-blocking file descriptor. The number of bytes is 0 with an
// error.
func writeFile(fd uintptr, b []byte) (int, syscall.Errno) { return call(syscall.SYS_WRITE, fd, b) }

// call makes a system call that ends at once, without telling Go's scheduler. On a node with
// little to do, each call that the scheduler is told of wakes the runtime's monitor, which
// then looks again and again for calls that take long; docs/decisions/0020 has what that
// costs. The race detector would not see such calls either, and so not know that a write to
// a socket happens before the read of what was written. Its builds have file_told.go.
func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
