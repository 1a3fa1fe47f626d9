package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxPulls  = 8   // under way at once, of the engine's own
	watchPage = 500 // entries of a pull with Config.Watch
)

// job is what the next pull of a conversation is for.
type job uint8

const (
	noJob   job = iota
	upward      // the entries after the position, up to the end of the gap
	leap        // the newest page of a gap that is jumped
	refill      // the top of a hole
	compare     // the server's entries in a window of the store's, see check
	refold      // the folds that may lack something, upwards
)

// Ranks of pulls: a lower rank goes first.
const (
	rankOpened = iota // the conversation that a person looks at, or has asked to Fill
	rankOwn           // the user's own log
	rankNew           // new entries
	rankHole          // holes, which lie behind the new entries
	ranks
)

// pulls are the engine's own pulls, at most one for a conversation.
type pulls struct {
	fx      *effects
	limits  *limits
	page    int            // Config.Page
	timeout time.Duration  // Config.RequestTimeout
	random  func() float64 // Config.Random

	queues  [ranks][]*conversation // those that have pulling set and wait for their turn
	active  requests[*pull]
	gaps    []*conversation // those whose gapBy may be set
	waiting []*conversation // those whose retryAt is set
}

type pull struct {
	request
	c       *conversation
	job     job
	fill    *fill   // the Fill that it serves; nil: none
	from    pim.Seq // c.known+1 when the pull was made
	seen    pim.Seq // c.newest when the pull was made
	settled bool    // refill: some of the hole was filled; refold: some folds are complete
}

// most returns how many entries are pulled at once.
func (p *pulls) most() uint32 { return min(uint32(p.page), p.limits.page) }

// want queues a pull of c. None is queued or under way.
func (p *pulls) want(c *conversation, rank int) {
	c.pulling, c.gapBy = true, 0
	p.queues[rank] = append(p.queues[rank], c)
}

// move moves c to the end of another queue, if it is in one.
func (p *pulls) move(c *conversation, rank int) {
	if p.drop(c) {
		p.queues[rank] = append(p.queues[rank], c)
	}
}

// drop takes c out of its queue and reports whether it was in one.
func (p *pulls) drop(c *conversation) bool {
	for rank, q := range p.queues {
		if i := slices.Index(q, c); i >= 0 {
			p.queues[rank] = slices.Delete(q, i, i+1)
			return true
		}
	}
	return false
}

// pop returns the conversation whose turn it is, nil if none waits.
func (p *pulls) pop() *conversation {
	for rank, q := range p.queues {
		if len(q) > 0 {
			c := q[0]
			q[0] = nil
			p.queues[rank] = q[1:]
			return c
		}
	}
	return nil
}

// sort puts the conversations with the most recent entries first. It also makes the
// order independent of that of a map.
func (p *pulls) sort() {
	for _, q := range p.queues {
		slices.SortFunc(q, func(a, b *conversation) int {
			return cmp.Or(cmp.Compare(b.recent, a.recent), cmp.Compare(a.id, b.id))
		})
	}
}

// start transmits the pull of c, whose turn has come. f is the Fill that it serves, if any.
func (p *pulls) start(c *conversation, do job, f *fill) {
	a := &pull{
		request: request{p.fx.request(), p.fx.now.Mono + p.timeout},
		c:       c, job: do, fill: f, from: c.known + 1, seen: c.newest,
	}
	p.active[a.number] = a
	p.fx.write(a.message(p.most(), p.limits.page))
}

// message returns the frame that asks for up to page entries, or as many as a Fill wants,
// but at most most. A comparison's answer begins anew with it.
func (p *pull) message(page, most uint32) *wirepb.PIMPullReq {
	c := p.c
	req := &wirepb.PIMPullReq{RequestId: p.number, Conversation: string(c.id), From: uint64(p.from), Limit: page}
	switch p.job {
	case refill:
		h, _ := c.holes.eager()
		if p.fill != nil {
			h, _ = c.holes.below(p.fill.Before)
			if p.fill.Limit > 0 {
				req.Limit = min(uint32(min(p.fill.Limit, pim.MaxPageEntries)), most)
			}
		}
		req.From, req.To, req.NewestFirst = uint64(h.From), uint64(h.To), true
	case compare:
		first, last := c.doubt.ask()
		req.From, req.To, req.NewestFirst = uint64(first), uint64(last), true
	case refold:
		req.From, req.To, req.Changes, req.Limit = uint64(c.fresh+1), uint64(c.stale), true, most
	case leap:
		req.NewestFirst = true
		fallthrough
	default:
		if end := c.gapEnd(); len(c.ahead) > 0 && end != unknownSeq {
			req.To = uint64(end)
		}
	}
	return req
}

// answered returns the pull whose answer a frame belongs to, and gives what is left of the
// answer its time again; nil if it is none of these pulls.
func (p *pulls) answered(number uint64) *pull {
	a := p.active[number]
	if a != nil {
		a.answerBy = p.fx.now.Mono + p.timeout
	}
	return a
}

// end forgets a pull that is under way.
func (p *pulls) end(a *pull) {
	delete(p.active, a.number)
	a.c.pulling = false
}

// retry notes a failed pull of c, which is tried again after wait; 0: after a backoff.
func (p *pulls) retry(c *conversation, wait time.Duration) {
	c.failures++
	if wait == 0 {
		wait = repeatAfter(c.failures, p.random)
	}
	if c.retryAt == 0 {
		p.waiting = append(p.waiting, c)
	}
	c.retryAt = p.fx.now.Mono + wait
}

// awaitPushes makes c wait until pushes have closed its gap, or gapPatience is over.
func (p *pulls) awaitPushes(c *conversation) {
	c.gapBy = p.fx.now.Mono + gapPatience
	p.gaps = append(p.gaps, c)
}

// forget drops the pull of c, whether it is queued, under way, or to be tried again.
func (p *pulls) forget(c *conversation) {
	p.abandon(c)
	p.drop(c)
	p.waiting = slices.DeleteFunc(p.waiting, func(other *conversation) bool { return other == c })
	c.pulling, c.again, c.retryAt = false, false, 0
}

// abandon forgets the pull of c that is under way, if there is one.
func (p *pulls) abandon(c *conversation) {
	for _, a := range p.active {
		if a.c == c {
			p.end(a)
			return
		}
	}
}

// left forgets all of them: the connection, if there was one, is gone.
func (p *pulls) left() {
	for _, a := range p.active {
		a.c.pulling, a.c.again = false, false
	}
	clear(p.active)
	for rank, q := range p.queues {
		for _, c := range q {
			c.pulling = false
		}
		p.queues[rank] = nil
	}
	for _, c := range p.gaps {
		c.gapBy = 0
	}
	for _, c := range p.waiting {
		c.retryAt = 0
	}
	p.gaps, p.waiting = nil, nil
}

// openGaps returns the conversations whose gaps pushes have not closed in time, and takes them
// out of gaps.
func (p *pulls) openGaps() (due []*conversation) {
	p.gaps = slices.DeleteFunc(p.gaps, func(c *conversation) bool {
		if c.gapBy != 0 && p.fx.now.Mono < c.gapBy {
			return false
		}
		if c.gapBy != 0 {
			due = append(due, c)
		}
		c.gapBy = 0
		return true
	})
	return due
}

// retries returns the conversations whose pulls are to be tried again now.
func (p *pulls) retries() (due []*conversation) {
	p.waiting = slices.DeleteFunc(p.waiting, func(c *conversation) bool {
		if p.fx.now.Mono < c.retryAt {
			return false
		}
		c.retryAt = 0
		due = append(due, c)
		return true
	})
	return due
}

// deadline returns when something is due. While the shell does not read, no answer is overdue.
func (p *pulls) deadline(paused bool) time.Duration {
	at := p.active.deadline(paused)
	for _, c := range p.gaps {
		if c.gapBy != 0 {
			at = min(at, c.gapBy)
		}
	}
	for _, c := range p.waiting {
		at = min(at, c.retryAt)
	}
	return at
}
