package engine

import (
	"cmp"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const syncLimit = 1000 // conversations a page; the server cuts it to a frame

// syncing is how far the sync list is read: the server's list of the conversations that
// are behind.
type syncing struct {
	listed   bool // it was read to its end on this connection
	begunAt  time.Duration
	request  uint64 // under way, 0 if none
	full     bool   // every conversation is listed, not only those that are behind
	after    string // the page under way begins after this conversation
	again    bool   // the list may have changed meanwhile: read it once more
	failures int
	answerBy time.Duration
	retryAt  time.Duration // 0: no retry is set
}

// waits reports whether the server owes an answer.
func (s *syncing) waits() bool { return s.request != 0 }

// extend gives the answer time until by at least.
func (s *syncing) extend(by time.Duration) { s.restart(max(s.answerBy, by)) }

// restart gives the answer time until by.
func (s *syncing) restart(by time.Duration) {
	if s.waits() {
		s.answerBy = by
	}
}

// resumeSync starts reading the sync list on a new connection.
func (e *Engine) resumeSync() {
	e.sync = syncing{listed: e.cfg.Watch}
	e.startSync()
}

// startSync reads the sync list from its beginning. If the list is being read already,
// it is read once more afterwards, since the change may be on a page that is past.
func (e *Engine) startSync() {
	if e.cfg.Watch {
		for _, c := range e.conversations {
			if c.followed {
				e.aim(c, unknownSeq)
			}
		}
		e.pulls.sort()
		return
	}
	if e.sync.request != 0 || e.sync.retryAt != 0 {
		e.sync.again = true
		return
	}
	e.sync.full, e.sync.after, e.sync.again, e.sync.begunAt = e.meta.FullSync, "", false, e.now.Mono
	e.askSync()
}

func (e *Engine) askSync() {
	// The server lists what this device has not acknowledged.
	e.acks.send(true)
	e.sync.request, e.sync.retryAt = e.request(), 0
	e.sync.answerBy = e.now.Mono + e.cfg.RequestTimeout
	e.write(&wirepb.PIMSyncReq{
		RequestId: e.sync.request, Full: e.sync.full, After: e.sync.after, Limit: syncLimit, Brief: true,
	})
}

// synced takes a page of the sync list.
func (e *Engine) synced(m *wirepb.PIMSyncResp) {
	if m.RequestId != e.sync.request || m.RequestId == 0 {
		return
	}
	e.sync.request, e.sync.failures = 0, 0
	var changed []pim.ConversationID
	for _, s := range m.Conversations {
		if e.summarized(s) {
			changed = append(changed, pim.ConversationID(s.Conversation))
		}
	}
	e.pulls.sort()
	if len(changed) > 0 {
		e.emit(ListEvent{Conversations: changed})
	}
	switch {
	case m.NextAfter > e.sync.after:
		e.sync.after = m.NextAfter
		e.askSync()
	case e.sync.again:
		e.startSync()
	default:
		e.sync.listed = true
	}
}

// summarized takes one line of the sync list and reports whether it says something new.
func (e *Engine) summarized(s *wirepb.Summary) (changed bool) {
	c := e.conversation(pim.ConversationID(s.Conversation))
	if c == nil {
		return false
	}
	newest := newestOf(s.Newest)
	switch {
	case c.doubt != nil:
		c.doubt.hear(newest)
		return false
	case newest < c.known && c.movedAt < e.sync.begunAt && !c.checked:
		e.suspect(c)
		return false
	}
	whole, ok := wholeOf(c.id, s)
	if ok && newest == c.known+1 {
		e.arrive(c, whole)
	} else if newest >= c.newest && (newest > c.known || c.left != s.Left) {
		changed = true
		e.touch(c)
		c.newest, c.counted, c.count, c.left = newest, newest, s.Count, s.Left
		if last := lastOf(c.id, s); last != nil && newest > c.known {
			c.last, c.lastCut, c.recent = last, s.LastCut, last.Time()
			e.reads(c, last)
		}
	}
	if newest > c.known {
		e.aim(c, newest)
		if ok {
			e.keepAhead(c, whole)
		}
	}
	if acked := pim.Seq(s.Acked); acked < min(c.ackable(), newest) {
		c.acked = acked
		e.acks.later(c)
	}
	return changed
}

// wholeOf returns the entry at s.Newest if s shows the whole of it. Such an entry counts
// as if it had been pushed.
func wholeOf(c pim.ConversationID, s *wirepb.Summary) (entry pim.Entry, ok bool) {
	if !s.Whole || s.Last == nil || s.Last.Seq != s.Newest {
		return pim.Entry{}, false
	}
	entry, err := wire.EntryOf(c, s.Last)
	return entry, err == nil
}

// lastOf returns the entry that s shows, nil if s shows none. The fields that s itself
// has are taken from s, since a brief Summary leaves them out of the entry.
func lastOf(c pim.ConversationID, s *wirepb.Summary) *pim.Entry {
	if s.Last == nil {
		return nil
	}
	m := s.Last
	return &pim.Entry{
		Conversation: c, Seq: pim.Seq(s.Newest), Anchor: cmp.Or(pim.Seq(m.Anchor), pim.Seq(s.Newest)), Count: s.Count,
		Kind: pim.EntryKind(m.Kind), Sender: pim.UserID(m.Sender), Local: pim.Millis(m.LocalMs),
		Server: pim.Millis(m.ServerMs), Ahead: pim.Millis(m.AheadMs), Payload: m.Payload,
	}
}

func (e *Engine) syncFailed(err *pim.Error) {
	e.sync.request = 0
	e.sync.failures++
	e.sync.retryAt = e.now.Mono + max(err.RetryAfter, repeatAfter(e.sync.failures, e.cfg.Random))
}

// finishSync takes note if a full sync is complete: the list is read, and every
// conversation in it is pulled.
func (e *Engine) finishSync() {
	if e.meta.FullSync && !e.cfg.Watch && e.Synced() && e.sync.full {
		e.meta.FullSync, e.metaDirty = false, true
	}
}

func (e *Engine) tickSync() {
	now := e.now.Mono
	switch {
	case e.sync.retryAt != 0 && now >= e.sync.retryAt:
		e.askSync()
	case e.sync.request != 0 && !e.paused && now >= e.sync.answerBy:
		e.watchdog.unanswered(e.sync.answerBy-e.cfg.RequestTimeout, now)
		e.askSync()
	}
}

func (e *Engine) syncDeadline(at *time.Duration) {
	if e.sync.retryAt != 0 {
		*at = min(*at, e.sync.retryAt)
	}
	if e.sync.request != 0 && !e.paused {
		*at = min(*at, e.sync.answerBy)
	}
}
