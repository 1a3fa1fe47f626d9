//go:build !unix

package load

import "errors"

// ownCPU returns the CPU seconds that this process has used; 0 if they are not known.
func ownCPU() float64 { return 0 }

// readFD is not supported here: the load generator runs on Unix only.
func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
