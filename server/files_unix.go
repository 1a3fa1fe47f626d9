//go:build unix

package server

import "syscall"

// openFiles returns how many files this process may have open; ok is false if that is not
// known.
func openFiles() (n uint64, ok bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return uint64(limit.Cur), true
}

// modesCount says that a file's mode decides who may use the file.
const modesCount = true
