//go:build !linux && !darwin

package gateway

import "net"

// boundUnsent does nothing: here the kernel takes what it likes.
func boundUnsent(net.Conn) {}
