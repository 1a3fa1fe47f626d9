package load

import (
	"context"
	"sync"
	"time"
)

// MemoryPoint is what the server's memory was at one moment of a run.
type MemoryPoint struct {
	Seconds            float64 `json:"seconds"` // since all connections were open
	BytesPerConnection float64 `json:"bytes_per_connection"`
}

// curve is how the server's memory develops while connections are held.
type curve struct {
	meter *meter
	begun time.Time
	empty int64 // the server's RSS without them
	users int

	mu      sync.Mutex
	points  []MemoryPoint
	highest float64
	ended   bool
}

const (
	// curveFrom is how long a run must be to show a curve. Each look makes the server
	// work, so a short run, whose end is its figure, has none.
	curveFrom = 30 * time.Second
	curveLook = 5 * time.Second // between two looks for the highest point
)

// curveTimes are where the curve has points, besides its end.
var curveTimes = []time.Duration{
	3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 20 * time.Hour,
}

// watch looks at the server's memory now and then, for as long as the run is to
// take, and not at all if that is short.
func (c *curve) watch(ctx context.Context, duration time.Duration) error {
	if duration < curveFrom {
		return nil
	}
	next := curveTimes
	for at := time.Duration(0); ; {
		shown := len(next) > 0 && next[0] <= at+curveLook
		if at += curveLook; shown {
			at, next = next[0], next[1:]
		}
		if at >= duration {
			return nil
		}
		if err := wait(ctx, time.Until(c.begun.Add(at))); err != nil {
			return err
		}
		u, err := c.meter.read(ctx)
		if err != nil {
			return err
		}
		c.note(u.rss, shown)
	}
}

// note takes one look; one that is shown is a point of the curve.
func (c *curve) note(rss int64, shown bool) {
	each := float64(rss-c.empty) / float64(c.users)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.highest = max(c.highest, each)
	if shown {
		c.points = append(c.points, MemoryPoint{Seconds: time.Since(c.begun).Seconds(), BytesPerConnection: each})
	}
}

// end takes the last look and puts the curve into rep, if there is one.
func (c *curve) end(rss int64, rep *Report) {
	c.mu.Lock()
	looked := len(c.points) > 0
	c.mu.Unlock()
	if looked {
		c.note(rss, true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	rep.MemoryCurve, rep.MaxBytesPerConnection = c.points, c.highest
}
