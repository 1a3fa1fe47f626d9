package load

import (
	"context"
	"sync"
	"time"
)

// MemoryPoint is the server's memory at one moment of a run.
type MemoryPoint struct {
	Seconds            float64 `json:"seconds"` // since all connections were open
	BytesPerConnection float64 `json:"bytes_per_connection"`
}

// curve records how the server's memory develops while connections are held.
type curve struct {
	meter *meter
	begun time.Time
	empty int64 // the server's RSS before the connections, in bytes
	users int

	mu      sync.Mutex
	points  []MemoryPoint
	highest float64
	ended   bool
}

const (
	// curveFrom is the length of the shortest run that has a curve. Each look makes the
	// server work, so a shorter run reports only the memory at its end.
	curveFrom = 30 * time.Second
	curveLook = 5 * time.Second // between two looks for the highest point
)

// curveTimes are the times of the curve's points. One more point is at the end.
var curveTimes = []time.Duration{
	3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 20 * time.Hour,
}

// watch looks at the server's memory at curveTimes, and at least every curveLook, until
// duration has passed. If duration is less than curveFrom, it does not look at all.
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

// note records one look. If shown is set, the look is a point of the curve.
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

// end records the last look, if there were others, and puts the curve into rep.
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
