//go:build !linux && !darwin

package transport

import "net"

// boundUnsent does nothing: here the kernel takes what it likes.
func boundUnsent(net.Conn) {}
