package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxAsks    = 8    // under way at once
	maxWaiting = 1024 // Asks that wait for an answer, or for their turn; the same for Fills
)

// asks are the app's pulls. They go on over reconnects.
type asks struct {
	byID   map[uint64]*ask // all of them
	queue  []*ask
	active map[uint64]*ask // by the request on the wire
}

type ask struct {
	Ask
	request  uint64 // 0: in the queue
	page     Page
	failures int
	answerBy time.Duration
	retryAt  time.Duration // in the queue: it is not transmitted before
}

// waits reports whether the server owes an answer.
func (s *asks) waits() bool { return len(s.active) > 0 }

// extend gives every answer time until by at least.
func (s *asks) extend(by time.Duration) {
	for _, a := range s.active {
		a.answerBy = max(a.answerBy, by)
	}
}

// restart gives every answer time until by.
func (s *asks) restart(by time.Duration) {
	for _, a := range s.active {
		a.answerBy = by
	}
}

func (e *Engine) ask(in Ask) error {
	switch {
	case e.link.phase == stopped:
		return e.link.stopErr
	case len(e.asks.byID) >= maxWaiting:
		return pim.Errorf(pim.KindOverloaded, "%d pulls wait for an answer", len(e.asks.byID))
	}
	if err := in.Conversation.Validate(); err != nil {
		return err
	}
	a := &ask{Ask: in}
	e.asks.byID[in.ID] = a
	e.asks.queue = append(e.asks.queue, a)
	return nil
}

func (e *Engine) unask(id uint64) {
	e.fills.drop(id)
	a := e.asks.byID[id]
	if a == nil {
		return
	}
	delete(e.asks.byID, id)
	delete(e.asks.active, a.request)
	e.asks.queue = slices.DeleteFunc(e.asks.queue, func(q *ask) bool { return q == a })
}

func (e *Engine) startAsks() {
	s := &e.asks
	for i := 0; i < len(s.queue) && len(s.active) < maxAsks; {
		a := s.queue[i]
		if e.now.Mono < a.retryAt {
			i++
			continue
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		a.request, a.page, a.retryAt = e.request(), Page{From: 1}, 0
		a.answerBy = e.now.Mono + e.cfg.RequestTimeout
		s.active[a.request] = a
		e.write(&wirepb.PIMPullReq{
			RequestId: a.request, Conversation: string(a.Conversation), From: uint64(a.From), To: uint64(a.To),
			Limit: uint32(min(max(a.Limit, 0), pim.MaxPageEntries)), NewestFirst: a.NewestFirst,
		})
	}
}

// answered takes one frame of a page that the app asked for.
func (e *Engine) answered(m *wirepb.PIMPullResp) {
	a := e.asks.active[m.RequestId]
	if a == nil {
		return
	}
	a.answerBy = e.now.Mono + e.cfg.RequestTimeout
	entries, err := entriesOf(a.Conversation, m)
	if err != nil || len(a.page.Entries)+len(entries) > pim.MaxPageEntries {
		e.conclude(a, pim.Errorf(pim.KindInvalid, "the page cannot be read: %v", err))
		return
	}
	p := &a.page
	p.Entries = append(p.Entries, entries...)
	p.Newest = pim.Seq(m.Newest)
	switch from, to := pim.Seq(m.From), pim.Seq(m.To); {
	case from > to:
	case p.From > p.To:
		p.From, p.To = from, to
	default:
		p.From, p.To = min(p.From, from), max(p.To, to)
	}
	if m.Done {
		e.conclude(a, nil)
	}
}

func (e *Engine) conclude(a *ask, err *pim.Error) {
	delete(e.asks.byID, a.ID)
	delete(e.asks.active, a.request)
	p := Pulled{ID: a.ID, Err: err}
	if err == nil {
		p.Page = a.page
	}
	e.out.Pulled = append(e.out.Pulled, p)
}

// askFailed takes the server's refusal of an Ask.
func (e *Engine) askFailed(m *wirepb.PIMError) {
	a := e.asks.active[m.RequestId]
	if a == nil {
		return
	}
	err := refusalOf(m)
	if !m.Retryable {
		e.conclude(a, err)
		return
	}
	a.failures++
	e.requeue(a)
	a.retryAt = e.now.Mono + max(err.RetryAfter, repeatAfter(a.failures, e.cfg.Random))
}

func (e *Engine) requeue(a *ask) {
	delete(e.asks.active, a.request)
	a.request, a.page = 0, Page{}
	e.asks.queue = append(e.asks.queue, a)
}

// abandonAsks puts those under way back into the queue: the connection is gone.
func (e *Engine) abandonAsks() {
	s := &e.asks
	again := make([]*ask, 0, len(s.active))
	for _, a := range s.active {
		again = append(again, a)
	}
	slices.SortFunc(again, func(a, b *ask) int { return cmp.Compare(a.request, b.request) })
	for _, a := range again {
		e.requeue(a)
	}
}

// resumeAsks ends the waits that the connection before has left: all are due now.
func (e *Engine) resumeAsks() {
	for _, a := range e.asks.queue {
		a.retryAt = 0
	}
}

// failAsks answers all with err: there will be no connection.
func (e *Engine) failAsks(err *pim.Error) {
	s := &e.asks
	for _, a := range s.queue {
		e.conclude(a, err)
	}
	s.queue = nil
}

func (e *Engine) tickAsks() {
	if e.paused {
		return
	}
	for _, request := range slices.Sorted(maps.Keys(e.asks.active)) { // in the order of the requests
		if a := e.asks.active[request]; e.now.Mono >= a.answerBy {
			e.watchdog.unanswered(a.answerBy-e.cfg.RequestTimeout, e.now.Mono)
			e.requeue(a)
		}
	}
}

func (e *Engine) asksDeadline(at *time.Duration) {
	for _, a := range e.asks.active {
		if !e.paused {
			*at = min(*at, a.answerBy)
		}
	}
	for _, a := range e.asks.queue {
		if a.retryAt > e.now.Mono { // else it only waits for its turn
			*at = min(*at, a.retryAt)
		}
	}
}
