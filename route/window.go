package route

import "time"

// laneWindow is how many bytes of requests a lane has under way to a node, about: 8 MiB of all lanes together. That is less than
// the bus takes for a node, so what is sent again after a loss is not lost for want of room. What is more waits
// in the table, in its order, until answers have come. A request that is larger goes alone.
const laneWindow = 8 << 20 / lanes

// takes reports whether w may be sent to n now. What waits for n already goes first.
func (n *link) takes(w *waiting) bool { return n.held == 0 && n.fits(w) }

func (n *link) fits(w *waiting) bool { return n.flying == 0 || n.flying+w.size <= w.router.window }

// fly notes that w is sent to n.
func (n *link) fly(w *waiting) {
	w.flight = n
	n.flying += w.size
}

// hold has w wait until n takes it.
func (n *link) hold(w *waiting) {
	w.held = n
	n.held++
	n.queue = append(n.queue, w)
	w.router.metrics.held.Inc()
}

// land notes that w is neither under way nor waits for it. The caller must flush.
func (l *lane) land(w *waiting) {
	if n := w.flight; n != nil {
		w.flight = nil
		if n.flying -= w.size; n.held > 0 && !n.freed {
			n.freed = true
			l.freed = append(l.freed, n)
		}
	}
	if n := w.held; n != nil {
		w.held = nil
		n.held-- // its place in the queue is passed over, see release
		l.router.metrics.held.Dec()
	}
}

// landAll is land for all that goes to a node, and will be sent once more for that reason if it was sent.
func (l *lane) landAll(node string, n *link, why string) {
	for w := l.first; w != nil; w = w.next {
		if w.to == node {
			if w.flight != nil && !isGone(w.request) {
				l.router.metrics.again(why)
			}
			l.land(w)
		}
	}
	n.queue = nil
}

// release puts into batches what has waited and has room now.
func (l *lane) release(now time.Time) {
	for _, n := range l.freed {
		n.freed = false
		for len(n.queue) > 0 {
			w := n.queue[0]
			if w.held == n {
				if !n.fits(w) {
					break
				}
				l.land(w)
				w.sent = now
				n.fly(w)
				l.batch(w)
			}
			n.queue[0] = nil
			n.queue = n.queue[1:]
		}
	}
	clear(l.freed)
	l.freed = l.freed[:0]
}
