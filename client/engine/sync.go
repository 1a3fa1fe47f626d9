package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const syncLimit = 1000 // conversations a page; the server cuts it to a frame

// syncing is the reading of the list of conversations that are behind.
type syncing struct {
	listed   bool   // it was read to its end on this connection
	request  uint64 // under way, 0 if none
	full     bool
	after    string // page under way
	again    bool   // something was dropped meanwhile: read it once more
	failures int
	answerBy time.Duration
	retryAt  time.Duration // 0: no retry is set
}

// resumeSync starts with the list on a new connection.
func (e *Engine) resumeSync() {
	e.sync = syncing{listed: e.cfg.Watch}
	e.startSync()
}

// startSync reads the list from its beginning. While it is being read already,
// it is read again afterwards, since the change may be on a page that is past.
func (e *Engine) startSync() {
	if e.cfg.Watch {
		for _, c := range e.conversations {
			if c.followed {
				e.aim(c, unknownSeq)
			}
		}
		e.sortPulls()
		return
	}
	if e.sync.request != 0 || e.sync.retryAt != 0 {
		e.sync.again = true
		return
	}
	e.sync.full, e.sync.after, e.sync.again = e.meta.FullSync, "", false
	e.askSync()
}

func (e *Engine) askSync() {
	// The server lists what is not acknowledged.
	e.acknowledge(true)
	e.sync.request, e.sync.retryAt = e.request(), 0
	e.sync.answerBy = e.now.Mono + e.cfg.RequestTimeout
	e.write(&wirepb.PIMSyncReq{
		RequestId: e.sync.request, Full: e.sync.full, After: e.sync.after, Limit: syncLimit,
	})
}

// synced takes a page of the list.
func (e *Engine) synced(m *wirepb.PIMSyncResp) {
	if m.RequestId != e.sync.request || m.RequestId == 0 {
		return
	}
	e.sync.request, e.sync.failures = 0, 0
	for _, s := range m.Conversations {
		e.summarized(s)
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

// summarized takes one line of the list.
func (e *Engine) summarized(s *wirepb.Summary) {
	c := e.conversation(pim.ConversationID(s.Conversation))
	if c == nil {
		return
	}
	newest := pim.Seq(s.Newest)
	if newest >= c.newest && (newest > c.known || c.left != s.Left) {
		e.touch(c)
		c.newest, c.count, c.left = newest, s.Count, s.Left
		if newest > c.known {
			c.last, c.lastCut = lastOf(c.id, s), s.LastCut
		}
	}
	if newest > c.known {
		e.aim(c, newest)
	}
	if pim.Seq(s.Acked) < min(c.known, newest) {
		e.ackLater(c)
	}
}

// lastOf returns the entry that s shows, nil if there is none.
func lastOf(c pim.ConversationID, s *wirepb.Summary) *pim.Entry {
	if s.Last == nil {
		return nil
	}
	entry, err := wire.EntryOf(c, s.Last)
	if err != nil {
		return nil
	}
	return &entry
}

func (e *Engine) syncFailed(err *pim.Error) {
	e.sync.request = 0
	e.sync.failures++
	e.sync.retryAt = e.now.Mono + max(err.RetryAfter, e.backoff(e.sync.failures))
}

// finishSync takes note that a full sync is complete: listed, and every
// conversation of the list pulled.
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
		e.unanswered(e.sync.answerBy - e.cfg.RequestTimeout)
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
