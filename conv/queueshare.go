package conv

import (
	"maps"

	"github.com/pim-im/pim"
)

// A driver's queue has a share for each user, of requests and of bytes: a user may have a quarter of
// what is free. So one user takes a fifth of a driver's requests at most, and many users leave as much to the
// next one as each of them has. The bytes are free for all drivers together: who sends to conversations
// of many drivers takes such a part of what is left by each of them.

// queueShare is the part of what is free that one user may have: one in so many.
const queueShare = 4

// userQueue is what one user has in a driver's queue: requests without an answer.
type userQueue struct {
	requests int
	bytes    int64
}

// userQueues are those of all users who have something in a driver's queue, and of some who had.
// arrivals.mu guards them. The zero value is empty.
type userQueues struct {
	of   map[pim.UserID]*userQueue
	most int // above which those of users who have nothing are forgotten
}

// take counts requests, if their senders' shares allow it, when so many requests and bytes are free.
func (s *userQueues) take(requests []*Request, freeRequests int, freeBytes int64) bool {
	var q *userQueue
	for i, r := range requests {
		if i == 0 || r.Sender != requests[i-1].Sender {
			q = s.get(r.Sender)
		}
		r.queue = q
		q.requests++
		if q.bytes += r.size(); q.requests > freeRequests/queueShare || q.bytes > freeBytes/queueShare {
			for _, r := range requests[:i+1] {
				r.release()
			}
			return false
		}
	}
	return true
}

func (s *userQueues) get(u pim.UserID) *userQueue {
	q := s.of[u]
	if q == nil {
		if s.of == nil {
			s.of = make(map[pim.UserID]*userQueue)
		}
		if len(s.of) >= s.most {
			maps.DeleteFunc(s.of, func(_ pim.UserID, q *userQueue) bool { return q.requests == 0 })
			s.most = 2*len(s.of) + 1024
		}
		q = new(userQueue)
		s.of[u] = q
	}
	return q
}

// release notes that r leaves the queue.
func (r *Request) release() {
	r.queue.requests--
	r.queue.bytes -= r.size()
	r.queue = nil
}

// release notes that requests get their answer now.
func (a *arrivals) release(answers []Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range answers {
		answers[i].Request.release()
	}
}
