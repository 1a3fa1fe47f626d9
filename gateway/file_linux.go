//go:build !race

package gateway

import (
	"syscall"
	"unsafe"
)

// readFile reads once; the number is 0 at the end, and with an error. The file does
// not block.
func readFile(fd uintptr, b []byte) (int, syscall.Errno) { return call(syscall.SYS_READ, fd, b) }

// writeFile writes once; the number is 0 with an error. The file does not block.
func writeFile(fd uintptr, b []byte) (int, syscall.Errno) { return call(syscall.SYS_WRITE, fd, b) }

// call makes a system call that ends at once, so Go's scheduler is not told of it. Each
// one that it is told of wakes the runtime's monitor on a node with little to do, which
// then looks again and again for calls that take long. docs/decisions/0020 has what that
// costs. The race detector is not told of it either, and would miss that what is written
// to a socket comes before what is read from it, so its builds have file_told.go.
func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
