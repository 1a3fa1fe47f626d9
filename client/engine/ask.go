package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxAsks    = 8    // under way at once
	maxWaiting = 1024 // Asks that are not answered, those under way included; as many Fills
)

// asks are the app's pulls, and what it asks about receipts and members. They go on over reconnects.
type asks struct {
	fx      *effects
	timeout time.Duration  // Config.RequestTimeout
	random  func() float64 // Config.Random

	byID   map[uint64]*ask // all of them
	queue  []*ask
	active requests[*ask]
}

type ask struct {
	Ask
	question question // nil: it is a pull
	request           // its number is 0 in the queue
	page     Page
	failures int
	retryAt  time.Duration // in the queue: it is not transmitted before
}

// question is an input that asks the server for something else than a page.
type question interface {
	asked(number uint64) wire.Message // as the request with that number
}

func newAsks(fx *effects, timeout time.Duration, random func() float64) asks {
	return asks{fx: fx, timeout: timeout, random: random, byID: make(map[uint64]*ask), active: make(requests[*ask])}
}

// add queues an Ask, or, if q is not nil, that.
func (s *asks) add(in Ask, q question) error {
	if len(s.byID) >= maxWaiting {
		return pim.Errorf(pim.KindOverloaded, "%d requests wait for an answer", len(s.byID))
	}
	if err := in.Conversation.Validate(); err != nil {
		return err
	}
	a := &ask{Ask: in, question: q}
	s.byID[in.ID] = a
	s.queue = append(s.queue, a)
	return nil
}

// drop forgets the Ask id: nobody waits for its answer any more.
func (s *asks) drop(id uint64) {
	a := s.byID[id]
	if a == nil {
		return
	}
	delete(s.byID, id)
	delete(s.active, a.number)
	s.queue = slices.DeleteFunc(s.queue, func(q *ask) bool { return q == a })
}

// start transmits Asks from the queue while fewer than maxAsks are under way.
func (s *asks) start() {
	for i := 0; i < len(s.queue) && len(s.active) < maxAsks; {
		a := s.queue[i]
		if s.fx.now.Mono < a.retryAt {
			i++
			continue
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		a.request = request{s.fx.request(), s.fx.now.Mono + s.timeout}
		a.page, a.retryAt = Page{From: 1}, 0
		s.active[a.number] = a
		if a.question != nil {
			s.fx.write(a.question.asked(a.number))
			continue
		}
		s.fx.write(&wirepb.PIMPullReq{
			RequestId: a.number, Conversation: string(a.Conversation), From: uint64(a.From), To: uint64(a.To),
			Limit: uint32(min(max(a.Limit, 0), pim.MaxPageEntries)), NewestFirst: a.NewestFirst,
			Changes: a.Changes,
		})
	}
}

// answered takes one frame of a page, if an Ask has asked for it.
func (s *asks) answered(m *wirepb.PIMPullResp) {
	a := s.active[m.RequestId]
	if a == nil || a.question != nil {
		return
	}
	a.answerBy = s.fx.now.Mono + s.timeout
	entries, folds, err := contents(a.Conversation, m)
	if err != nil || len(a.page.Entries)+len(entries) > pim.MaxPageEntries {
		s.conclude(a, pim.Errorf(pim.KindInvalid, "the page cannot be read: %v", err))
		return
	}
	p := &a.page
	p.Entries, p.Folds = append(p.Entries, entries...), append(p.Folds, folds...)
	p.Newest = pim.Seq(m.Newest)
	if m.Done { // of the frames of a page, those with erasures say nothing else
		p.Retention = pim.Retention{Age: pim.Millis(m.RetainMs), Before: pim.Millis(m.RetainBeforeMs), From: pim.Millis(m.RetainFromMs)}
		p.ServerRetain = pim.Millis(m.ServerRetainMs)
	}
	switch from, to := pim.Seq(m.From), pim.Seq(m.To); {
	case from > to:
	case p.From > p.To:
		p.From, p.To = from, to
	default:
		p.From, p.To = min(p.From, from), max(p.To, to)
	}
	if m.Done {
		s.conclude(a, nil)
	}
}

func (s *asks) conclude(a *ask, err *pim.Error) {
	p := Pulled{ID: a.ID, Err: err}
	if err == nil {
		p.Page = a.page
	}
	s.hand(a, p)
}

// hand hands over p, the answer to a.
func (s *asks) hand(a *ask, p Pulled) {
	delete(s.byID, a.ID)
	delete(s.active, a.number)
	s.fx.out.Pulled = append(s.fx.out.Pulled, p)
}

// failed takes the server's refusal of the request with the given number, if it is an Ask's.
func (s *asks) failed(number uint64, err *pim.Error, retryable bool) {
	a := s.active[number]
	if a == nil {
		return
	}
	if !retryable {
		s.conclude(a, err)
		return
	}
	a.failures++
	s.requeue(a)
	a.retryAt = s.fx.now.Mono + max(err.RetryAfter, repeatAfter(a.failures, s.random))
}

func (s *asks) requeue(a *ask) {
	delete(s.active, a.number)
	a.request, a.page = request{}, Page{}
	s.queue = append(s.queue, a)
}

// suspend puts those under way back into the queue: the connection is gone.
func (s *asks) suspend() {
	for _, a := range s.active.ordered() {
		s.requeue(a)
	}
}

// resume makes every Ask in the queue due at once: on a new connection earlier refusals say
// nothing any more.
func (s *asks) resume() {
	for _, a := range s.queue {
		a.retryAt = 0
	}
}

// fail answers every Ask with err, because no connection will come. The caller has called suspend,
// so none is under way.
func (s *asks) fail(err *pim.Error) {
	for _, a := range s.queue {
		s.conclude(a, err)
	}
	s.queue = nil
}

// tick puts the Asks whose answers are overdue back into the queue. It returns when each of them
// was transmitted.
func (s *asks) tick() (unanswered []time.Duration) {
	for _, a := range s.active.overdue(s.fx.now.Mono) {
		unanswered = append(unanswered, a.answerBy-s.timeout)
		s.requeue(a)
	}
	return unanswered
}

// deadline returns when something is due. While the shell does not read, no answer is overdue.
func (s *asks) deadline(paused bool) time.Duration {
	at := s.active.deadline(paused)
	for _, a := range s.queue {
		if a.retryAt > s.fx.now.Mono { // else it only waits for its turn
			at = min(at, a.retryAt)
		}
	}
	return at
}
