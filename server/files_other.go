//go:build !unix

package server

// openFiles returns how many files this process may have open; ok is false if that
// cannot be said.
func openFiles() (n uint64, ok bool) { return 0, false }

// modesCount says that a file's mode is not who may use it.
const modesCount = false
