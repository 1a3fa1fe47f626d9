package client

import "github.com/pim-im/pim/client/engine"

// SetClock makes a client that is opened with o read clock instead of the system's.
func SetClock(o *Options, clock func() engine.Time) { o.clock = clock }

// InMemory returns how many entries and other events c has in memory for an app that
// confirms. c must be closed, or do nothing at present.
func InMemory(c *Client) int { return len(c.loop.feed.queue) + len(c.loop.pending) }
