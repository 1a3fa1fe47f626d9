//go:build !linux && !darwin

package gateway

import "net"

// boundUnsent does nothing: these systems have no such option.
func boundUnsent(net.Conn) {}
