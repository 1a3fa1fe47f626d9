//go:build !unix

package load

import "errors"

// ownCPU returns the CPU seconds that this process has used; 0 if they are not known.
func ownCPU() float64 { return 0 }

// readFD is for what a Unix calls a file descriptor: the load is made on one.
func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
