//go:build unix

package load

import (
	"syscall"
	"time"
)

// ownCPU returns the CPU seconds that this process has used.
func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// readFD reads what there is, without waiting: syscall.EAGAIN if there is nothing.
func readFD(fd uintptr, b []byte) (int, error) {
	for {
		if n, err := syscall.Read(int(fd), b); err != syscall.EINTR {
			return n, err
		}
	}
}
