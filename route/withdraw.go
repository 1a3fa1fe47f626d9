package route

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// A refusal that is final says that the request is in no log. But a request that was sent again may
// still wait at another node, which may write it later: the user is a member again by then, say. So
// such a refusal counts only if there can be no other copy. Otherwise each node that may have one is asked to
// withdraw it. The messages of a lane come in order, so what was sent before the withdrawal was taken before, or never
// is. When all have withdrawn, the request is sent once more, to one node: if a copy has been written, and the
// answer was lost, this one is found to be a duplicate. If a node does not say that it has no copy, in
// the end the answer is that no node has answered in time, after which the client sends the request again.

// sentTo is a node that may have a copy of a request.
type sentTo struct {
	node string
	run  uint64 // of the node, or a later one than was sent the copies; 0: not known
	sent int    // how often the request was sent
}

// ended reports whether v shows that all processes which were sent copies have ended.
func (c *sentTo) ended(v *bus.View) bool {
	n := v.Node(c.node)
	return n != nil && c.run != 0 && n.Run > c.run
}

// copied notes that w was sent to a node, which had that run afterwards; 0: not known, or this node. The view of
// the lane does not tell the run: the bus may have met a new process before the lane hears of it, and has sent w
// to that one.
func (w *waiting) copied(to string, run uint64) {
	if w.withdrawing {
		return
	}
	for i := range w.copies {
		if c := &w.copies[i]; c.node == to {
			c.run = run
			c.sent++
			return
		}
	}
	w.copies = append(w.copies, sentTo{node: to, run: run, sent: 1})
}

// gone notes that a node has no copy of w any more.
func (w *waiting) gone(node string) {
	w.copies = slices.DeleteFunc(w.copies, func(c sentTo) bool { return c.node == node })
}

// refusedBy notes a final refusal of a node: it has no copy any more, unless w was sent to it again.
func (w *waiting) refusedBy(node string) {
	w.copies = slices.DeleteFunc(w.copies, func(c sentTo) bool { return c.node == node && c.sent == 1 })
}

// settled reports whether w, which a node did not write because of err, may be answered now. If not, the caller
// must flush.
func (w *waiting) settled(err error, now time.Time) bool {
	if !w.withdrawing && (len(w.copies) == 0 || pim.KindOf(err).Retryable()) {
		return true
	}
	if !w.withdrawing {
		w.withdrawing = true
		w.withdrawals++
	}
	w.withdraw(now)
	return false
}

// withdraw asks a node that may have a copy of w to withdraw it. Copies of this node's writers are
// waited for. If there is none, w is sent once more, unless its connection has gone.
func (w *waiting) withdraw(now time.Time) {
	if len(w.copies) == 0 {
		w.withdrawing = false
		if isGone(w.request) { // its client may have been told of a final refusal of what it sent again
			w.land(w)
			w.to = ""
			w.router.watch() // tick gives it back
			return
		}
		if to := w.target(placed(w.request), now); to != "" {
			w.router.metrics.again("withdrawn")
			w.send(w, to, now)
		}
		return // without a writer it is given up in the end
	}
	for _, c := range w.copies {
		if c.node != w.router.self {
			w.send(w, c.node, now)
			return
		}
	}
	w.land(w)
	w.to = w.router.self
}
