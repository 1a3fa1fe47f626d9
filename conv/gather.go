package conv

import "time"

const (
	gatherBatches  = 16
	gatherRequests = 1024
	gatherFor      = 2 * time.Millisecond
)

// gathering counts what a driver has the store write, and says when requests are to gather. If
// gatherBatches batches or gatherRequests requests are under way, the driver begins no batch
// until fewer are, or until gatherFor has passed since it last began some. In one turn it
// takes about gatherRequests requests at most. Requests gather meanwhile, as with Nagle's
// algorithm. So the two sides of a direct conversation share a batch, what is under way stays
// in the CPU's caches, and a slow write holds up the others for 2 ms at most.
type gathering struct {
	writing  int         // batches and look-ups whose writes are under way
	requests int         // in batches that are under way, or about to begin
	begun    time.Time   // when the newest append was begun
	heard    time.Time   // when an outcome came last, or the first write since there was none under way was begun
	timer    *time.Timer // fires when machines that are ready have waited

	// Of this turn.
	wait  time.Duration // no batch begins before so much has passed; at most 0: some may begin
	taken int           // requests in the batches of this turn
}

// decide says for a new turn whether batches may begin.
func (g *gathering) decide() {
	g.wait, g.taken = 0, 0
	if g.writing >= gatherBatches || g.requests >= gatherRequests {
		g.wait = gatherFor - time.Since(g.begun)
	}
}

// took notes that b is to begin in this turn.
func (g *gathering) took(b *batch) {
	g.requests += len(b.requests)
	if g.taken += len(b.requests); g.taken >= gatherRequests {
		g.wait = gatherFor
	}
}

// began notes that writes of b have begun.
func (g *gathering) began(b *batch, now time.Time) {
	if g.writing == 0 {
		g.heard = now
	}
	g.writing++
	if !b.affecting {
		g.begun = now
	}
}

// ended notes at now that the writes of b under way have ended. If last is set, b has no more.
func (g *gathering) ended(b *batch, last bool, now time.Time) {
	g.writing--
	g.heard = now
	if last {
		g.requests -= len(b.requests)
	}
}
