package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
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
	queues  [ranks][]*conversation // those that have pulling set and wait for their turn
	active  map[uint64]*pull       // by request
	gaps    []*conversation        // those whose gapBy may be set
	waiting []*conversation        // those whose retryAt is set
}

type pull struct {
	c        *conversation
	job      job
	fill     *fill // the Fill that it serves; nil: none
	request  uint64
	from     pim.Seq // c.known+1 when the pull was made
	seen     pim.Seq // c.newest when the pull was made
	settled  bool    // refill: some of the hole was filled
	answerBy time.Duration
}

func (p *pulls) push(c *conversation, rank int) { p.queues[rank] = append(p.queues[rank], c) }

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

// waits reports whether the server owes an answer.
func (p *pulls) waits() bool { return len(p.active) > 0 }

// extend gives every answer time until by at least.
func (p *pulls) extend(by time.Duration) {
	for _, a := range p.active {
		a.answerBy = max(a.answerBy, by)
	}
}

// restart gives every answer time until by.
func (p *pulls) restart(by time.Duration) {
	for _, a := range p.active {
		a.answerBy = by
	}
}

// jobOf returns what the next pull of c is for.
func (e *Engine) jobOf(c *conversation) job {
	if c.doubt != nil {
		if c.doubt.asks() {
			return compare
		}
		return noJob
	}
	if c.behind() {
		if e.jumps(c, c.gapEnd()) {
			return leap
		}
		return upward
	}
	if e.fills.next(c) != nil {
		return refill
	}
	if _, ok := c.holes.eager(); ok {
		return refill
	}
	return noJob
}

// gapEnd returns the last seq of the gap above the position.
func (c *conversation) gapEnd() pim.Seq {
	switch {
	case c.target == unknownSeq:
		return unknownSeq
	case len(c.ahead) > 0:
		return c.ahead[0].Seq - 1
	}
	return c.newest
}

func (e *Engine) rank(c *conversation) int {
	_, own := c.id.OwnUser()
	switch {
	case c.id == e.opened || e.fills.next(c) != nil:
		return rankOpened
	case own:
		return rankOwn
	case c.behind():
		return rankNew
	}
	return rankHole
}

// wantPull queues a pull of c, unless one is queued, under way, or waits to be
// tried again.
func (e *Engine) wantPull(c *conversation) {
	if c.pulling || c.retryAt != 0 || e.link.phase != open {
		return
	}
	c.pulling, c.gapBy = true, 0
	e.pulls.push(c, e.rank(c))
}

func (e *Engine) startPulls() {
	for len(e.pulls.active) < maxPulls {
		c := e.pulls.pop()
		if c == nil {
			return
		}
		do := e.jobOf(c)
		if do == noJob { // pushes were faster
			c.pulling = false
			continue
		}
		p := &pull{
			c: c, job: do, request: e.request(), from: c.known + 1, seen: c.newest,
			answerBy: e.now.Mono + e.cfg.RequestTimeout,
		}
		e.pulls.active[p.request] = p
		e.write(e.pullRequest(p))
	}
}

func (e *Engine) pullRequest(p *pull) *wirepb.PIMPullReq {
	c := p.c
	req := &wirepb.PIMPullReq{
		RequestId: p.request, Conversation: string(c.id),
		From: uint64(p.from), Limit: min(uint32(e.cfg.Page), e.limits.page),
	}
	switch p.job {
	case refill:
		h, _ := c.holes.eager()
		if p.fill = e.fills.next(c); p.fill != nil {
			h, _ = c.holes.below(p.fill.Before)
			if p.fill.Limit > 0 {
				req.Limit = min(uint32(min(p.fill.Limit, pim.MaxPageEntries)), e.limits.page)
			}
		}
		req.From, req.To, req.NewestFirst = uint64(h.From), uint64(h.To), true
	case compare:
		first, last := c.doubt.window()
		req.From, req.To, req.NewestFirst = uint64(first), uint64(last), true
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

// pulled takes one frame of a page.
func (e *Engine) pulled(m *wirepb.PIMPullResp) {
	p := e.pulls.active[m.RequestId]
	if p == nil {
		e.asks.answered(m)
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
	from, to := pim.Seq(m.From), pim.Seq(m.To)
	if p.job == compare {
		c.doubt.take(entries, from, to, newestOf(m.Newest))
		if m.Done {
			e.endPull(p)
			// While a full sync is due, the server's store may be another.
			e.goOn(c, c.doubt.answered(!e.meta.FullSync))
		}
		return
	}
	if p.job == refill {
		p.settled = e.fillHole(c, entries, from, to) || p.settled
	} else {
		e.advance(p, entries, from, to)
	}
	newest := newestOf(m.Newest)
	if newest > c.newest {
		c.newest = newest
		e.touch(c)
	}
	if c.isOwn() && newest > c.counted { // stored, so that the next process knows how far it is behind
		c.counted = newest
		e.touch(c)
	}
	if c.target == unknownSeq {
		e.conversations.setTarget(c, max(newest, 1))
		e.conversations.arrived(c)
	}
	if m.Done {
		e.endPull(p)
		e.afterPull(c, p, newest)
	}
}

// advance moves the position over the seqs from..to, which a frame settles. Only the
// first frame of a leap may leave a gap below it.
func (e *Engine) advance(p *pull, entries []pim.Entry, from, to pim.Seq) {
	c := p.c
	if from > to {
		return
	}
	if p.job == leap && from > c.known+1 {
		e.jumpTo(c, from)
	}
	if from > c.known+1 {
		return
	}
	for _, entry := range entries {
		if entry.Seq > c.known {
			e.deliver(c, entry)
		}
	}
	e.settle(c, to)
	e.closeGap(c)
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

// afterPull goes on when an answer is complete: with the next page, if there is more.
func (e *Engine) afterPull(c *conversation, p *pull, newest pim.Seq) {
	if !c.checked && (newest < p.from-1 || c.isOwn() && newest < p.seen) {
		e.suspect(c) // the log was longer before
		return
	}
	if p.fill != nil && p.settled && e.fills.next(c) == p.fill {
		e.out.Filled = append(e.out.Filled, e.fills.conclude(p.fill, nil))
	}
	if c.again {
		c.again = false
		e.aim(c, unknownSeq)
	}
	switch {
	case p.job == refill && !p.settled:
		e.retryPull(c, 0)
	case p.job == refill, c.known >= p.from, c.newest > p.seen, c.target == unknownSeq:
		c.failures = 0
		e.out.Filled = append(e.out.Filled, e.fills.settle(c)...)
		if e.jobOf(c) != noJob {
			e.wantPull(c)
		}
	case newest <= c.known:
		// The device has all that this user may read, whatever was announced.
		e.dropAhead(c)
		e.giveUp(c)
	default:
		e.retryPull(c, 0)
	}
}

// giveUp assumes that there is nothing to be pulled above c.known.
func (e *Engine) giveUp(c *conversation) {
	e.conversations.clearAhead(c)
	c.newest, c.counted, c.last, c.lastCut, c.failures = c.known, c.known, nil, false, 0
	if c.own > c.known {
		c.own, c.ownUpTo = 0, 0
	}
	e.conversations.setTarget(c, 0)
	e.touch(c)
	if e.jobOf(c) != noJob { // a hole below it
		e.wantPull(c)
	}
}

// retryPull notes a failed pull of c, which is tried again after wait; 0: after a backoff.
func (e *Engine) retryPull(c *conversation, wait time.Duration) {
	c.failures++
	if wait == 0 {
		wait = repeatAfter(c.failures, e.cfg.Random)
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
	err := refusalOf(m)
	if m.Retryable {
		e.retryPull(p.c, err.RetryAfter)
		return
	}
	if p.job == compare {
		e.incomparable(p.c, err)
		return
	}
	if e.cfg.Watch {
		p.c.followed = false
		e.emit(RefusedEvent{Conversation: p.c.id, Err: err})
	}
	e.out.Filled = append(e.out.Filled, e.fills.fail(p.c, err)...)
	switch {
	case p.job != refill:
	case err.Kind == pim.KindNotMember || err.Kind == pim.KindForbidden || err.Kind == pim.KindNotFound:
		// Entries that the user may not read are no hole.
		e.setHoles(p.c, nil)
	case e.cfg.Confirms: // the server can't read it at present, and the app must not miss it
		e.retryPull(p.c, unreadableAgain)
	default: // whoever scrolls there asks again
		e.setHoles(p.c, p.c.holes.lazy())
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
	for rank, q := range e.pulls.queues {
		for _, c := range q {
			c.pulling = false
		}
		e.pulls.queues[rank] = nil
	}
	for _, c := range e.pulls.gaps {
		c.gapBy = 0
	}
	for _, c := range e.pulls.waiting {
		c.retryAt = 0
	}
	e.pulls.gaps, e.pulls.waiting = nil, nil
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
		if e.jobOf(c) != noJob {
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

// tickPulls pulls again where no answer came in time.
func (e *Engine) tickPulls() {
	if e.paused {
		return
	}
	for _, request := range slices.Sorted(maps.Keys(e.pulls.active)) { // in the order of the requests
		if p := e.pulls.active[request]; e.now.Mono >= p.answerBy {
			e.watchdog.unanswered(p.answerBy-e.cfg.RequestTimeout, e.now.Mono)
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
