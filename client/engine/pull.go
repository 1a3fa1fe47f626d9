package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxPulls  = 8   // under way at once, of the engine's own
	pullLimit = 500 // entries a page
)

// pulls are the engine's own pulls, at most one for a conversation.
type pulls struct {
	queue   []*conversation // that have pulling set and wait for their turn
	active  map[uint64]*pull
	gaps    []*conversation // whose gapBy may be set
	waiting []*conversation // whose retryAt is set
}

type pull struct {
	c        *conversation
	request  uint64
	from     pim.Seq
	seen     pim.Seq // c.newest when the pull was made
	answerBy time.Duration
}

// wantPull queues a pull of c, unless one is queued, under way, or waits to be
// tried again.
func (e *Engine) wantPull(c *conversation) {
	if c.pulling || c.retryAt != 0 || e.link.phase != open {
		return
	}
	c.pulling, c.gapBy = true, 0
	e.pulls.queue = append(e.pulls.queue, c)
}

// sortPulls makes the order of the queue independent of map order.
func (e *Engine) sortPulls() {
	slices.SortFunc(e.pulls.queue, func(a, b *conversation) int { return cmp.Compare(a.id, b.id) })
}

func (e *Engine) startPulls() {
	for len(e.pulls.active) < maxPulls && len(e.pulls.queue) > 0 {
		c := e.pulls.queue[0]
		e.pulls.queue[0] = nil
		e.pulls.queue = e.pulls.queue[1:]
		if !c.behind() { // pushes were faster
			c.pulling = false
			continue
		}
		p := &pull{
			c: c, request: e.request(), from: c.known + 1, seen: c.newest,
			answerBy: e.now.Mono + e.cfg.RequestTimeout,
		}
		e.pulls.active[p.request] = p
		req := &wirepb.PIMPullReq{
			RequestId: p.request, Conversation: string(c.id),
			From: uint64(p.from), Limit: min(pullLimit, e.limits.page),
		}
		if len(c.ahead) > 0 && c.target != unknownSeq {
			req.To = uint64(c.ahead[0].Seq - 1)
		}
		e.write(req)
	}
}

// pulled takes one frame of a page.
func (e *Engine) pulled(m *wirepb.PIMPullResp) {
	p := e.pulls.active[m.RequestId]
	if p == nil {
		e.answered(m)
		return
	}
	p.answerBy = e.now.Mono + e.cfg.RequestTimeout
	c := p.c
	entries, err := entriesOf(c.id, m)
	if err != nil {
		e.endPull(p)
		e.retryPull(c, 0)
		return
	}
	// A frame that leaves a hole before it settles nothing; there is none, since
	// the pages go upwards.
	if from, to := pim.Seq(m.From), pim.Seq(m.To); from <= to && from <= c.known+1 {
		for _, entry := range entries {
			if entry.Seq > c.known {
				e.deliver(c, entry)
			}
		}
		e.settle(c, to)
		e.closeGap(c)
	}
	if newest := pim.Seq(m.Newest); newest > c.newest {
		c.newest = newest
		e.touch(c)
	}
	if c.target == unknownSeq {
		c.target = max(pim.Seq(m.Newest), 1)
		e.arrived(c)
	}
	if m.Done {
		e.endPull(p)
		e.afterPull(c, p, pim.Seq(m.Newest))
	}
}

// entriesOf returns the entries of m, which must ascend within what it settles.
func entriesOf(c pim.ConversationID, m *wirepb.PIMPullResp) ([]pim.Entry, error) {
	entries := make([]pim.Entry, 0, len(m.Entries))
	least := m.From
	for _, w := range m.Entries {
		if w.Seq < least || w.Seq > m.To {
			return nil, pim.Errorf(pim.KindInvalid, "pull of %s: seq %d is not in %d..%d, or not in order", c, w.Seq, least, m.To)
		}
		least = w.Seq + 1
		entry, err := wire.EntryOf(c, w)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (e *Engine) endPull(p *pull) {
	delete(e.pulls.active, p.request)
	p.c.pulling = false
}

// afterPull goes on with the next page, if there is more to have.
func (e *Engine) afterPull(c *conversation, p *pull, newest pim.Seq) {
	if c.again {
		c.again = false
		e.aim(c, unknownSeq)
	}
	switch {
	case c.known >= p.from, c.newest > p.seen, c.target == unknownSeq:
		c.failures = 0
		if c.behind() {
			e.wantPull(c)
		}
	case newest <= c.known:
		// All that this user may read is here, whatever was announced.
		e.giveUp(c)
	default:
		e.retryPull(c, 0)
	}
}

// giveUp takes it that there is nothing above c.known.
func (e *Engine) giveUp(c *conversation) {
	e.clearAhead(c)
	c.newest, c.last, c.lastCut, c.failures = c.known, nil, false, 0
	if c.target != 0 {
		c.target = 0
		e.behind--
	}
	e.touch(c)
}

// retryPull pulls c again after wait; 0: after a backoff.
func (e *Engine) retryPull(c *conversation, wait time.Duration) {
	c.failures++
	if wait == 0 {
		wait = e.backoff(c.failures)
	}
	if c.retryAt == 0 {
		e.pulls.waiting = append(e.pulls.waiting, c)
	}
	c.retryAt = e.now.Mono + wait
}

// pullFailed takes the server's refusal of a pull.
func (e *Engine) pullFailed(m *wirepb.PIMError) {
	p := e.pulls.active[m.RequestId]
	if p == nil {
		return
	}
	e.endPull(p)
	err := wire.ErrorOf(m)
	if m.Retryable {
		e.retryPull(p.c, err.RetryAfter)
		return
	}
	if e.cfg.Watch {
		p.c.followed = false
		e.emit(RefusedEvent{Conversation: p.c.id, Err: err})
	}
	e.giveUp(p.c)
}

// abandonPull forgets a pull of id that is under way.
func (e *Engine) abandonPull(id pim.ConversationID) {
	for _, p := range e.pulls.active {
		if p.c.id == id {
			e.endPull(p)
			return
		}
	}
}

// abandonPulls forgets all of them: the connection is gone.
func (e *Engine) abandonPulls() {
	for _, p := range e.pulls.active {
		p.c.pulling, p.c.again = false, false
	}
	clear(e.pulls.active)
	for _, c := range e.pulls.queue {
		c.pulling = false
	}
	for _, c := range e.pulls.gaps {
		c.gapBy = 0
	}
	for _, c := range e.pulls.waiting {
		c.retryAt = 0
	}
	e.pulls.queue, e.pulls.gaps, e.pulls.waiting = nil, nil, nil
}

// tickConversations pulls where a gap did not close by itself, or a pull is to
// be tried again.
func (e *Engine) tickConversations() {
	now := e.now.Mono
	e.pulls.gaps = slices.DeleteFunc(e.pulls.gaps, func(c *conversation) bool {
		if c.gapBy != 0 && now < c.gapBy {
			return false
		}
		if c.gapBy != 0 && c.behind() {
			e.wantPull(c)
		}
		c.gapBy = 0
		return true
	})
	e.pulls.waiting = slices.DeleteFunc(e.pulls.waiting, func(c *conversation) bool {
		if now < c.retryAt {
			return false
		}
		c.retryAt = 0
		if c.behind() {
			e.wantPull(c)
		}
		return true
	})
}

func (e *Engine) conversationsDeadline(at *time.Duration) {
	for _, c := range e.pulls.gaps {
		if c.gapBy != 0 {
			*at = min(*at, c.gapBy)
		}
	}
	for _, c := range e.pulls.waiting {
		*at = min(*at, c.retryAt)
	}
}

// tickPulls asks again where no answer came.
func (e *Engine) tickPulls() {
	if e.paused {
		return
	}
	for _, p := range e.pulls.active {
		if e.now.Mono >= p.answerBy {
			e.unanswered(p.answerBy - e.cfg.RequestTimeout)
			e.endPull(p)
			e.wantPull(p.c)
		}
	}
}

func (e *Engine) pullsDeadline(at *time.Duration) {
	if e.paused {
		return
	}
	for _, p := range e.pulls.active {
		*at = min(*at, p.answerBy)
	}
}
