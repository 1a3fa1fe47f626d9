//go:build pimfaults

package server

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// ownClock returns the machine's wall clock and what the file "clock" in the data directory adds to it, as in "90s"
// or "-3m". A file that is written anew sets the clock of the running server, some milliseconds later. Who writes it
// puts it in place in one step, by a rename.
func ownClock(data string) func() time.Time {
	path := filepath.Join(data, "clock")
	var ahead atomic.Int64
	read := func() {
		text, err := os.ReadFile(path)
		if err != nil {
			return // there is none yet
		}
		if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
			ahead.Store(int64(d))
		}
	}
	read()
	go func() { // until the process ends
		for {
			time.Sleep(5 * time.Millisecond)
			read()
		}
	}()
	// Without the monotonic reading, which would tell the true time between two readings of this clock.
	return func() time.Time { return time.Now().Add(time.Duration(ahead.Load())).Round(0) }
}
