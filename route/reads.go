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
// from many users, and must not wait for that one after the other. So the commands of other nodes' users, and
// what their senders send behind them, go through slowQueues: each user through one of them, in order.
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
	peer *peer
	user pim.UserID
}

type slowRequest struct {
	*forwarded
	came time.Time
	size int64
}

func (r *Router) slowQueueOf(u pim.UserID) *slowQueue {
	return &r.slow[xxhash.Sum64String(string(u))%slowQueues]
}

// handOver gives requests of p that came at a time to the writers: those that may take long through the slowQueues,
// the others at once. It returns those that there is no room for.
func (p *peer) handOver(requests []*forwarded, came time.Time) (refused []*forwarded) {
	straight := make([]*conv.Request, 0, len(requests))
	submit := func() {
		if len(straight) > 0 {
			p.router.local.Submit(straight)
			straight = straight[len(straight):]
		}
	}
	for _, f := range requests {
		if f.Kind == pim.EntryCommand {
			submit() // what its sender sent before it goes first
		}
		switch p.router.slowQueueOf(f.Sender).put(f, came) {
		case notSlow:
			straight = append(straight, &f.Request)
		case noRoom:
			refused = append(refused, f)
		}
	}
	submit()
	return refused
}

type outcome int

const (
	notSlow outcome = iota
	queued
	noRoom
)

// put takes f if it is a command, or if something of its sender is here.
func (q *slowQueue) put(f *forwarded, came time.Time) outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	sender := slowSender{f.peer, f.Sender}
	if f.Kind != pim.EntryCommand && q.senders[sender] == 0 {
		return notSlow
	}
	s := slowRequest{f, came, sizeOf(&f.Request)}
	if f.peer.slow.Load()+s.size > peerBytes {
		return noRoom
	}
	if !q.busy {
		if q.busy = f.peer.router.start(func() { q.work(f.peer.router) }); !q.busy {
			return noRoom
		}
	}
	if q.senders == nil {
		q.senders = make(map[slowSender]int)
	}
	q.senders[sender]++
	f.peer.slow.Add(s.size)
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
		if time.Since(next.came) > stale {
			next.peer.refuse([]*forwarded{next.forwarded}, errStale)
			continue
		}
		r.local.Submit([]*conv.Request{&next.Request})
	}
}

// forget notes that s is here no more. q.mu is held.
func (q *slowQueue) forget(s *slowRequest) {
	s.peer.slow.Add(-s.size)
	sender := slowSender{s.peer, s.Sender}
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
