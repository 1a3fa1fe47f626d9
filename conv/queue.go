package conv

import "github.com/pim-im/pim"

const (
	lookupsUnderWay = 64 // look-ups that one driver has under way at a time

	// lookupShare is how many look-ups of one user may be under way or next in the queue.
	// A user whose messages need dear look-ups, such as late resends in logs of large
	// messages, takes a small part of the CPUs and of the disk.
	lookupShare = 2
)

// lookupQueue holds the look-ups of one driver that have not begun, and says which begins
// next. Each user has a share; within it look-ups begin in the order in which they came.
// The zero value is empty.
type lookupQueue struct {
	next     []*lookup                // within their users' shares
	held     map[pim.UserID][]*lookup // above their users' shares
	share    map[pim.UserID]int       // look-ups in next or under way
	underWay int
}

// add puts l into the queue.
func (q *lookupQueue) add(l *lookup) {
	if q.share == nil {
		q.share, q.held = make(map[pim.UserID]int), make(map[pim.UserID][]*lookup)
	}
	if q.share[l.user] == lookupShare {
		q.held[l.user] = append(q.held[l.user], l)
		return
	}
	q.share[l.user]++
	q.next = append(q.next, l)
}

// begin takes out the look-up that is to begin now, nil if there is none.
func (q *lookupQueue) begin() *lookup {
	if len(q.next) == 0 || q.underWay == lookupsUnderWay {
		return nil
	}
	l := q.next[0]
	q.next[0] = nil
	if q.next = q.next[1:]; len(q.next) == 0 {
		q.next = nil
	}
	q.underWay++
	return l
}

// end notes that l, which had begun, has ended.
func (q *lookupQueue) end(l *lookup) {
	q.underWay--
	held := q.held[l.user]
	switch {
	case len(held) > 1:
		q.next = append(q.next, held[0])
		held[0] = nil
		q.held[l.user] = held[1:]
	case len(held) == 1:
		q.next = append(q.next, held[0])
		delete(q.held, l.user)
	case q.share[l.user] > 1:
		q.share[l.user]--
	default:
		delete(q.share, l.user)
	}
}

// empty takes out all look-ups that have not begun.
func (q *lookupQueue) empty() []*lookup {
	all := q.next
	for _, held := range q.held {
		all = append(all, held...)
	}
	*q = lookupQueue{underWay: q.underWay}
	return all
}
