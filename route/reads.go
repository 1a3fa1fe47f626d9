package route

import (
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// Writers read the position of a read command from the store before they take it. What another node sends comes
// from many users, and must not wait for that one after the other, nor must what a lane of this node writes in place of
// another node. So such commands, and what their senders send behind them, go through slowQueues: each user through one
// of them, in order.
const slowQueues = 64

// slowQueue hands requests to the writers, one after the other.
type slowQueue struct {
	mu      sync.Mutex // guards the fields below
	waiting []slowRequest
	senders map[slowSender]int // how many are here, the one that is being handed over included
	busy    bool
}

// slowSender is a user at a node that asks.
type slowSender struct {
	peer *peer // nil: at this node
	user pim.UserID
}

// slowRequest is a request that may go through a slowQueue: of another node, or of a lane of this one.
type slowRequest struct {
	*conv.Request
	from *forwarded // nil: of lane
	came time.Time  // of from
	lane *lane
	size int64
}

func (s *slowRequest) sender() slowSender {
	if s.from == nil {
		return slowSender{nil, s.Sender}
	}
	return slowSender{s.from.peer, s.Sender}
}

func (r *Router) slowQueueOf(u pim.UserID) *slowQueue {
	return &r.slow[xxhash.Sum64String(string(u))%slowQueues]
}

// handOver gives requests to the writers: those that may take long through the slowQueues, the others at once. It returns
// how many it gave at once, and those that there is no room for.
func (r *Router) handOver(requests []slowRequest) (atOnce int, refused []slowRequest) {
	straight := make([]*conv.Request, 0, len(requests))
	submit := func() {
		if len(straight) > 0 {
			r.local.Submit(straight)
			straight = straight[len(straight):]
		}
	}
	for _, s := range requests {
		if s.Kind == pim.EntryCommand {
			submit() // what its sender sent before it goes first
		}
		switch r.slowQueueOf(s.Sender).put(r, s) {
		case notSlow:
			straight = append(straight, s.Request)
			atOnce++
		case noRoom:
			refused = append(refused, s)
		}
	}
	submit()
	return atOnce, refused
}

type outcome int

const (
	notSlow outcome = iota
	queued
	noRoom
)

// put takes s if it is a command, or if something of its sender is here. What the table holds is bounded there, and
// always has room.
func (q *slowQueue) put(r *Router, s slowRequest) outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	sender := s.sender()
	if s.Kind != pim.EntryCommand && q.senders[sender] == 0 {
		return notSlow
	}
	if s.size = sizeOf(s.Request); s.from != nil && s.from.peer.slow.Load()+s.size > peerBytes {
		return noRoom
	}
	if !q.busy {
		if q.busy = r.start(func() { q.work(r) }); !q.busy {
			return noRoom
		}
	}
	if q.senders == nil {
		q.senders = make(map[slowSender]int)
	}
	q.senders[sender]++
	if s.from != nil {
		s.from.peer.slow.Add(s.size)
	}
	q.waiting = append(q.waiting, s)
	return queued
}

// work hands over what is in q until nothing is left.
func (q *slowQueue) work(r *Router) {
	var last *slowRequest
	for {
		q.mu.Lock()
		if last != nil {
			q.forget(last)
		}
		if len(q.waiting) == 0 || r.isClosed() {
			for i := range q.waiting {
				q.forget(&q.waiting[i])
			}
			q.waiting, q.busy = nil, false
			q.mu.Unlock()
			return
		}
		next := q.waiting[0]
		q.waiting[0] = slowRequest{}
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		last = &next
		if next.from != nil && time.Since(next.came) > stale {
			next.from.peer.refuse([]*forwarded{next.from}, errStale)
			continue
		}
		r.local.Submit([]*conv.Request{next.Request})
	}
}

// forget notes that s is here no more. q.mu is held.
func (q *slowQueue) forget(s *slowRequest) {
	if s.from != nil {
		s.from.peer.slow.Add(-s.size)
	} else {
		s.lane.queued.Add(-1)
	}
	sender := s.sender()
	if q.senders[sender]--; q.senders[sender] == 0 {
		delete(q.senders, sender)
	}
}

// refuse answers requests that the writers were not given.
func (p *peer) refuse(requests []*forwarded, err error) {
	failure := encodeFailure(err)
	a := routepb.Answers{Life: requests[0].life}
	p.mu.Lock()
	for _, f := range requests {
		if p.life == f.life {
			delete(p.underWay, f.number)
		}
		a.Answers = append(a.Answers, &routepb.Answer{Number: f.number, Failure: failure})
	}
	p.mu.Unlock()
	p.router.answerMany(p.name, &a)
}
