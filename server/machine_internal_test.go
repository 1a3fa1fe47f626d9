package server

import (
	"runtime"
	"testing"
)

// What is not set goes by the cores, and TLS costs most of a connection.
func TestAcceptRate(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	for _, c := range []struct {
		set    int
		secure bool
		want   int
	}{{0, true, 1000 * cores}, {0, false, 5000 * cores}, {7, true, 7}, {7, false, 7}} {
		if got := acceptRate(c.set, c.secure); got != c.want {
			t.Errorf("accept-rate %d, TLS %t: %d a second, want %d", c.set, c.secure, got, c.want)
		}
	}
}
