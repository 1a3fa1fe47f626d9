//go:build unix && (!linux || race)

package gateway

import "syscall"

// readFile reads once from a non-blocking file descriptor. The number of bytes is 0 at the
// end and with an error.
func readFile(fd uintptr, b []byte) (int, syscall.Errno) { return outcome(syscall.Read(int(fd), b)) }

// writeFile writes once to a non-blocking file descriptor. The number of bytes is 0 with an
// error.
func writeFile(fd uintptr, b []byte) (int, syscall.Errno) { return outcome(syscall.Write(int(fd), b)) }

func outcome(n int, err error) (int, syscall.Errno) {
	if err != nil {
		errno, _ := err.(syscall.Errno)
		return 0, max(errno, 1) // err is always an Errno; an error must not become 0
	}
	return n, 0
}
