package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	syncLimit = 1000 // conversations a page; the server cuts it to a frame
	// recentFirst is how many conversations the server tells first at a login if the list is long,
	// those with the newest entries. They are what a person sees first.
	recentFirst = 20
)

// syncList is how far the sync list is read: the server's list of the conversations that
// are behind.
type syncList struct {
	fx      *effects
	timeout time.Duration  // Config.RequestTimeout
	random  func() float64 // Config.Random

	listed   bool // it was read to its end on this connection
	begunAt  time.Duration
	request  uint64 // under way, 0 if none
	full     bool   // every conversation is listed, not only those that are behind
	after    string // the page under way begins after this conversation
	recent   uint32 // how many conversations are to be told before the first page; 0 once something has come
	again    bool   // the list may have changed meanwhile: read it once more
	tells    bool   // the server is to tell fronts that this device has not acknowledged
	frontsTo string // the last conversation of a whole lot of fronts, if the list is read once more because of it
	failures int
	answerBy time.Duration
	retryAt  time.Duration // 0: no retry is set
}

// opened forgets what was read on the connection before.
func (s *syncList) opened() {
	*s = syncList{fx: s.fx, timeout: s.timeout, random: s.random, tells: s.tells, recent: recentFirst}
}

// left notes that the connection, if there was one, is left.
func (s *syncList) left() {
	s.request, s.answerBy, s.retryAt = 0, 0, 0
	s.listed = false
}

// waits reports whether the server owes an answer.
func (s *syncList) waits() bool { return s.request != 0 }

// extend gives the answer time until by at least.
func (s *syncList) extend(by time.Duration) { s.restart(max(s.answerBy, by)) }

// restart gives the answer time until by.
func (s *syncList) restart(by time.Duration) {
	if s.waits() {
		s.answerBy = by
	}
}

// start begins to read the list, and reports whether ask is to be called. If the list is
// being read already, it is read once more afterwards, since the change may be on a page
// that is past.
func (s *syncList) start() bool {
	if s.request != 0 || s.retryAt != 0 {
		s.again = true
		return false
	}
	s.full, s.after, s.again, s.begunAt = s.fx.meta.FullSync, "", false, s.fx.now.Mono
	return true
}

// ask transmits the request for the next page.
func (s *syncList) ask() {
	s.request, s.retryAt = s.fx.request(), 0
	s.answerBy = s.fx.now.Mono + s.timeout
	s.fx.write(&wirepb.PIMSyncReq{
		RequestId: s.request, Full: s.full, After: s.after, Limit: syncLimit, Brief: true, Recent: s.recent,
		Fronts: s.tells && s.after == "",
	})
}

// ahead reports whether request is the page under way, of which conversations have come ahead.
func (s *syncList) ahead(request uint64) bool {
	if request != s.request || request == 0 {
		return false
	}
	s.recent, s.failures = 0, 0
	s.extend(s.fx.now.Mono + s.timeout)
	return true
}

// answered reports whether request is the page under way. If it is, no page is under way
// any more.
func (s *syncList) answered(request uint64) bool {
	if request != s.request || request == 0 {
		return false
	}
	s.request, s.recent, s.failures = 0, 0, 0
	return true
}

// page goes on after a page, and reports whether ask is to be called. The next page
// begins after the conversation next, if that is news.
func (s *syncList) page(next string) bool {
	switch {
	case next > s.after:
		s.after = next
		return true
	case s.again:
		return s.start()
	}
	s.listed = true
	return false
}

// fronts takes the fronts of a page. If there may be more, the list is read once more, by when these
// are acknowledged. A server that tells the same ones again does not get them acknowledged; then the
// rest waits for the next sync.
func (s *syncList) fronts(told []*wirepb.Front) {
	switch n := len(told); {
	case s.after != "":
	case n >= frontsAtOnce && told[0].Conversation > s.frontsTo && !s.full:
		s.frontsTo, s.again = told[n-1].Conversation, true
	default:
		s.frontsTo = ""
	}
}

// failed takes the server's refusal of the page under way, which is asked for again.
func (s *syncList) failed(err *pim.Error) {
	s.request = 0
	s.failures++
	s.retryAt = s.fx.now.Mono + max(err.RetryAfter, repeatAfter(s.failures, s.random))
}

// due reports whether a page that was refused is to be asked for again now.
func (s *syncList) due() bool { return s.retryAt != 0 && s.fx.now.Mono >= s.retryAt }

// overdue reports whether no answer to the page under way has come in time. sentAt is when the page
// was asked for.
func (s *syncList) overdue() (sentAt time.Duration, ok bool) {
	return s.answerBy - s.timeout, s.request != 0 && s.fx.now.Mono >= s.answerBy
}

// deadline returns when something is due. While the shell does not read, no answer is overdue.
func (s *syncList) deadline(paused bool) time.Duration {
	at := never
	if s.retryAt != 0 {
		at = s.retryAt
	}
	if s.request != 0 && !paused {
		at = min(at, s.answerBy)
	}
	return at
}
