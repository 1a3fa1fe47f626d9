//go:build !unix

package server

// openFiles returns how many files this process may have open; ok is false if that is not
// known.
func openFiles() (n uint64, ok bool) { return 0, false }

// modesCount says that a file's mode does not decide who may use the file.
const modesCount = false
