package client

import "github.com/pim-im/pim/client/engine"

// SetClock has the client of o read clock instead of the system's.
func SetClock(o *Options, clock func() engine.Time) { o.clock = clock }
