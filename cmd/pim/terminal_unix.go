//go:build unix

package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// hasTerminal reports whether a terminal controls this process. An error of another
// kind, as when the process has no file left, says nothing about the terminal.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOENT)
}
