package server

import (
	"math"
	"runtime"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// mostMemory returns the bytes in use above which new connections are turned away: max-memory if
// it is set, or else three quarters of what the process may have. It is 0, no bound, if that is not
// known. The rest is for garbage, and for the connections that are there.
func mostMemory(set int) uint64 {
	if set > 0 {
		return uint64(set)
	}
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 { // GOMEMLIMIT
		return uint64(n) / 4 * 3
	}
	least := uint64(math.MaxInt64)
	for _, known := range []func() (uint64, error){memlimit.FromCgroup, memlimit.FromSystem} {
		if n, err := known(); err == nil && n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least / 4 * 3
}

// How many new connections a second one core takes, with CPU left for messages. What a handshake of TLS takes is most of a login.
const (
	acceptTLS   = 1000
	acceptPlain = 5000
)

// acceptRate returns how many new connections a second are let in: accept-rate if it is set, or else what the cores that Go
// uses are good for.
func acceptRate(set int, secure bool) int {
	switch {
	case set > 0:
		return set
	case secure:
		return acceptTLS * runtime.GOMAXPROCS(0)
	default:
		return acceptPlain * runtime.GOMAXPROCS(0)
	}
}
