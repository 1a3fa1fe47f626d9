package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// jobOf returns what the next pull of c is for.
func (e *Engine) jobOf(c *conversation) job {
	if c.doubt != nil {
		if c.doubt.asks() {
			return compare
		}
		return noJob
	}
	if c.behind() {
		if !e.cfg.Watch && c.jumps(c.gapEnd(), pim.Seq(e.cfg.Page)) {
			return leap
		}
		return upward
	}
	if e.fills.next(c) != nil {
		return refill
	}
	if c.stale != 0 {
		return refold
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
	case c.id == e.opened || e.isRead(c.id) || e.fills.next(c) != nil:
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
	if c.pulling || c.retryAt != 0 || e.link.phase != open || e.skips(c) {
		return
	}
	e.pulls.want(c, e.rank(c))
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
		var f *fill
		if do == refill {
			f = e.fills.next(c)
		}
		e.pulls.start(c, do, f)
	}
}

// pulled takes one frame of a page.
func (e *Engine) pulled(m *wirepb.PIMPullResp) {
	p := e.pulls.answered(m.RequestId)
	if p == nil {
		e.asks.answered(m)
		return
	}
	c := p.c
	entries, folds, err := contents(c.id, m)
	if err != nil {
		e.pulls.end(p)
		e.pulls.retry(c, 0)
		return
	}
	from, to := pim.Seq(m.From), pim.Seq(m.To)
	if p.job == compare {
		c.doubt.take(entries, from, to, newestOf(m.Newest), pim.Seq(m.Front))
		if m.Done {
			e.pulls.end(p)
			// While a full sync is due, the server's store may be another.
			e.goOn(c, c.doubt.answered(!e.meta.FullSync))
		}
		return
	}
	for _, w := range m.Erasures {
		e.erase(c, pim.Erasure{By: pim.UserID(w.By), UpTo: pim.Seq(w.Upto)})
	}
	e.merge(c, folds)
	switch p.job {
	case refill:
		p.settled = e.fillHole(c, entries, from, to) || p.settled
	case refold:
		p.settled = e.refolded(c, from, to) || p.settled
	default:
		e.advance(p, entries, from, to)
	}
	e.stands(c, m.Standing, p.from == 1)
	newest := newestOf(m.Newest)
	e.trimmed(c, pim.Seq(m.Front), newest)
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
		e.pulls.end(p)
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
	if c.isOwn() {
		e.caughtUp()
	}
	e.closeGap(c)
}

// contents returns the entries and folds of m. Both must ascend within what it settles.
func contents(c pim.ConversationID, m *wirepb.PIMPullResp) ([]pim.Entry, []pim.Fold, error) {
	entries, err := entriesOf(c, m)
	if err != nil {
		return nil, nil, err
	}
	folds, err := foldsOf(c, m)
	return entries, folds, err
}

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
	if c.isOwn() {
		e.giveUpExpected()
	}
	switch {
	case (p.job == refill || p.job == refold) && !p.settled:
		e.pulls.retry(c, 0)
	case p.job == refill, p.job == refold, c.known >= p.from, c.newest > p.seen, c.target == unknownSeq:
		c.failures = 0
		e.settleFills(c)
		if e.jobOf(c) != noJob {
			e.wantPull(c)
		}
	case newest <= c.known:
		// The device has all that this user may read, whatever was announced.
		e.dropAhead(c)
		e.giveUp(c)
	default:
		e.pulls.retry(c, 0)
	}
}

// giveUp assumes that there is nothing to be pulled above c.known.
func (e *Engine) giveUp(c *conversation) {
	if c.isOwn() { // what the list has told is not there
		for entity, told := range e.foretold {
			told.At = 0
			e.foretold[entity] = told
		}
		e.caughtUp()
	}
	e.conversations.clearAhead(c)
	above := c.counted > c.known
	c.newest, c.counted, c.last, c.lastCut, c.failures = c.known, c.known, nil, false, 0
	e.fetches.seekOwn(c, above)
	e.conversations.setTarget(c, 0)
	e.touch(c)
	if e.jobOf(c) != noJob { // a hole below it
		e.wantPull(c)
	}
}

// pullFailed takes the server's refusal of a pull.
func (e *Engine) pullFailed(m *wirepb.PIMError) {
	p := e.pulls.active[m.RequestId]
	if p == nil {
		return
	}
	e.pulls.end(p)
	err := refusalOf(m)
	if m.Retryable {
		e.pulls.retry(p.c, err.RetryAfter)
		return
	}
	switch p.job {
	case compare:
		e.incomparable(p.c, err)
		return
	case refold: // the folds are shown as they are
		e.conversations.setStale(p.c, 0)
		e.touch(p.c)
		if e.jobOf(p.c) != noJob {
			e.wantPull(p.c)
		}
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
		e.pulls.retry(p.c, unreadableAgain)
	default: // whoever scrolls there asks again
		e.setHoles(p.c, p.c.holes.lazy())
	}
	e.giveUp(p.c)
}

// tickPulls pulls where a gap did not close by itself, where a pull is to be tried again,
// and where no answer came in time.
func (e *Engine) tickPulls() {
	for _, c := range e.pulls.openGaps() {
		if c.behind() {
			e.wantPull(c)
		}
	}
	for _, c := range e.pulls.retries() {
		if e.jobOf(c) != noJob {
			e.wantPull(c)
		}
	}
	if e.paused {
		return
	}
	for _, p := range e.pulls.active.overdue(e.now.Mono) {
		e.watchdog.unanswered(p.answerBy-e.cfg.RequestTimeout, e.now.Mono)
		e.pulls.end(p)
		e.wantPull(p.c)
	}
}
