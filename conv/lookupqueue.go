package conv

import "github.com/pim-im/pim"

const (
	lookupsUnderWay = 64 // look-ups that one driver has under way at a time

	// lookupShare is how many look-ups for requests of one user may be under way or next in
	// the queue, and lookupsHeld how many more may wait. So a user whose messages need costly
	// look-ups (late resends in logs of large messages) gets only a small part of the CPUs and
	// of the disk. Loads, checks of refusals and the steps of an erase have no share, since the
	// whole conversation waits for them. A step of an erase reads about 4 MiB, and 10 MiB if it
	// meets edits that long.
	lookupShare = 4
	lookupsHeld = 256

	// Searches read up to a whole log, 4 MiB at a time, so few are under way: of one driver, and
	// of one user. All searches of a user together read each record of a log once.
	searchesUnderWay = 2
	searchShare      = 1
)

// lookupQueue holds the look-ups of one driver that have not begun, and says which begins
// next. The look-ups of one user's requests begin in the order in which they came.
type lookupQueue struct {
	most int // look-ups that are under way at a time
	each int // of them, and of those that are next, the requests of one user may have

	next     []*lookup                // within their users' shares
	held     map[pim.UserID][]*lookup // above their users' shares
	share    map[pim.UserID]int       // look-ups for requests in next or under way
	underWay int
}

// add puts l into the queue. It returns false if too many of the user's wait.
func (q *lookupQueue) add(l *lookup) bool {
	if l.request == nil {
		q.next = append(q.next, l)
		return true
	}
	u := l.request.Sender
	if q.share == nil {
		q.share, q.held = make(map[pim.UserID]int), make(map[pim.UserID][]*lookup)
	}
	switch {
	case q.share[u] < q.each:
		q.share[u]++
		q.next = append(q.next, l)
	case len(q.held[u]) < lookupsHeld:
		q.held[u] = append(q.held[u], l)
	default:
		return false
	}
	return true
}

// begin takes out the look-up that is to begin now, nil if there is none.
func (q *lookupQueue) begin() *lookup {
	if len(q.next) == 0 || q.underWay == q.most {
		return nil
	}
	l := q.next[0]
	q.next[0] = nil
	if q.next = q.next[1:]; len(q.next) == 0 {
		q.next = nil
	}
	q.underWay++
	l.begun = true
	return l
}

// end notes that l, which had begun, has ended.
func (q *lookupQueue) end(l *lookup) {
	q.underWay--
	if l.request == nil {
		return
	}
	u := l.request.Sender
	held := q.held[u]
	switch {
	case len(held) > 1:
		q.next = append(q.next, held[0])
		held[0] = nil
		q.held[u] = held[1:]
	case len(held) == 1:
		q.next = append(q.next, held[0])
		delete(q.held, u)
	case q.share[u] > 1:
		q.share[u]--
	default:
		delete(q.share, u)
	}
}

// empty takes out all look-ups that have not begun.
func (q *lookupQueue) empty() []*lookup {
	all := q.next
	for _, held := range q.held {
		all = append(all, held...)
	}
	q.next, q.held = nil, nil
	return all
}
