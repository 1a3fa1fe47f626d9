package cql

import (
	"context"
	"time"
)

const (
	// refusals is how many refusals in a row, by nodes of the driver's choice, end a write of which nothing
	// is under way. A node may be behind in what it knows of the others.
	refusals = 3

	// refusedFor is for how long they are borne if an earlier request of the write may take effect. Then
	// somebody would like to know what has become of it, and the nodes may be back soon.
	refusedFor = 2 * time.Second
)

// patience decides how long a write is tried.
type patience struct {
	unknown bool // some request may have taken effect, and nobody has told

	tries   int
	refused int       // in a row
	since   time.Time // when the first of these was
}

// after takes the outcome of a request or a look: the error, nil if others were faster. It pauses, and
// returns whether the write is tried again. A cluster that refuses ends it early, so that a write
// which can't succeed holds up nobody: its caller's answer, other writes of its log, and room.
func (p *patience) after(ctx context.Context, err error) bool {
	if err == nil || !refused(err) {
		p.refused = 0
	} else if p.refused++; p.refused == 1 {
		p.since = time.Now()
	}
	if mistaken(err) || p.refused >= refusals && (!p.unknown || time.Since(p.since) >= refusedFor) {
		return false
	}
	p.tries++
	return pause(ctx, p.tries-1)
}
