package client

import "github.com/pim-im/pim/client/engine"

// SetClock has the client of o read clock instead of the system's.
func SetClock(o *Options, clock func() engine.Time) { o.clock = clock }

// InMemory returns how many entries a client that does not run any more, or does
// nothing at present, has in memory for an app that confirms.
func InMemory(c *Client) int { return len(c.loop.feed.queue) + len(c.loop.pending) }
