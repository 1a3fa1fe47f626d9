package route

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// Of one node, so many messages and bytes wait to be handed to the writers at most, and so many bytes more in the
// slowQueues.
const (
	peerMessages = 4096
	peerBytes    = 16 << 20
)

var errStale = pim.Errorf(pim.KindUnavailable, "the request has waited too long for the writers of the node")

var errPeerFull = &pim.Error{Kind: pim.KindOverloaded, Text: "too many requests of one node wait for the writers of another", RetryAfter: time.Second}

// peer is another node that sends requests here.
type peer struct {
	router *Router
	name   string

	mu       sync.Mutex // guards the fields below
	queue    []arrival
	bytes    int // in queue
	busy     bool
	life     uint64              // of the Router that asks
	underWay map[uint64]struct{} // numbers of its requests that the writers have

	lanes map[uint32]*heard // owned by work; of life

	slow atomic.Int64 // bytes of its requests in the Router's slowQueues, about
}

// arrival is the body of a Submit, and when it came.
type arrival struct {
	body []byte
	came time.Time
}

// stale is how long a message waits for the writers at most. Its requests are refused then: a copy of a request that
// is written when its sender has long been told otherwise must not be left over.
const stale = 5 * time.Second

// maxWait bounds what another node says of how long a request has waited, in milliseconds.
const maxWait = 3_600_000

// heard is what was taken last of a lane of the other node.
type heard struct {
	round uint64
	place uint64 // of the next message of the round
}

// forwarded is a request of another node. It is its own Origin.
type forwarded struct {
	conv.Request
	peer   *peer
	life   uint64
	number uint64
}

// receiveSubmit takes the body of a KindSubmit.
func (r *Router) receiveSubmit(from string, body []byte) {
	if r.put(from, slices.Clone(body)) {
		return
	}
	var m routepb.Submit
	if err := m.UnmarshalVT(body); err != nil {
		r.metrics.malformed.Inc()
		return
	}
	err := error(errStopping)
	if !r.isClosed() {
		r.metrics.refused("node_queue")
		err = errPeerFull
	}
	r.refuse(from, &m, err)
}

// refuse answers all requests of m with err. A request to withdraw one gets this answer as well, and comes again.
func (r *Router) refuse(to string, m *routepb.Submit, err error) {
	failure := encodeFailure(err)
	a := routepb.Answers{Life: m.Life}
	for _, q := range m.Requests {
		a.Answers = append(a.Answers, &routepb.Answer{Number: q.Number, Failure: failure})
	}
	r.answerMany(to, &a)
}

// answerMany sends a, whose answers may be too many for one message.
func (r *Router) answerMany(to string, a *routepb.Answers) {
	all := a.Answers
	for len(all) > 4096 {
		r.answer(to, &routepb.Answers{Life: a.Life, Answers: all[:4096]})
		all = all[4096:]
	}
	a.Answers = all
	r.answer(to, a)
}

// put queues the body of a Submit. It reports whether there was room.
func (r *Router) put(from string, body []byte) bool {
	r.peersMu.Lock()
	defer r.peersMu.Unlock()
	p := r.peers[from]
	if p == nil {
		p = &peer{router: r, name: from, underWay: make(map[uint64]struct{})}
		r.peers[from] = p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= peerMessages || p.bytes+len(body) > peerBytes {
		return false
	}
	if !p.busy {
		if p.busy = r.start(p.work); !p.busy {
			return false
		}
	}
	p.queue = append(p.queue, arrival{body, time.Now()})
	p.bytes += len(body)
	return true
}

// missed notes that messages from a node may have been lost. If it is known to send requests, it is told
// at once, so that it need not wait for answers that do not come.
func (r *Router) missed(from string) {
	r.peersMu.Lock()
	p := r.peers[from]
	r.peersMu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	life := p.life
	p.mu.Unlock()
	r.answer(from, &routepb.Answers{Life: life, Gap: true})
}

// forgetPeers forgets the nodes that are not in v any more, if nothing of them is under way.
func (r *Router) forgetPeers(v *bus.View) {
	r.peersMu.Lock()
	defer r.peersMu.Unlock()
	for name, p := range r.peers {
		if v.Node(name) != nil {
			continue
		}
		p.mu.Lock()
		if !p.busy && len(p.underWay) == 0 {
			delete(r.peers, name)
		}
		p.mu.Unlock()
	}
}

// work hands what has come to the writers until nothing is left.
func (p *peer) work() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 || p.router.isClosed() {
			p.queue, p.bytes, p.busy = nil, 0, false
			p.mu.Unlock()
			return
		}
		a := p.queue[0]
		p.queue[0] = arrival{}
		p.queue = p.queue[1:]
		p.bytes -= len(a.body)
		p.mu.Unlock()
		p.submit(a)
	}
}

// submit hands the requests of one message to the writers.
func (p *peer) submit(a arrival) {
	r := p.router
	var m routepb.Submit
	if err := m.UnmarshalVT(a.body); err != nil {
		r.metrics.malformed.Inc()
		return
	}
	if !p.takes(&m) {
		r.answer(p.name, &routepb.Answers{Life: m.Life, Missed: &routepb.Missed{Lane: m.Lane, Round: m.Round}})
		return
	}
	var refusal *routepb.Failure
	switch {
	case r.local == nil:
		refusal = encodeFailure(errNoWriter)
	case time.Since(a.came) > stale:
		refusal = encodeFailure(errStale)
	}
	all := make([]forwarded, len(m.Requests))
	requests := make([]slowRequest, 0, len(m.Requests))
	now := routepb.Answers{Life: m.Life} // what is answered at once
	p.mu.Lock()
	for i, q := range m.Requests {
		_, known := p.underWay[q.Number]
		switch {
		case known:
			now.UnderWay = append(now.UnderWay, q.Number)
			continue
		case q.Withdraw > 0:
			now.Answers = append(now.Answers, &routepb.Answer{Number: q.Number, Withdrawn: q.Withdraw})
			continue
		case refusal != nil:
			now.Answers = append(now.Answers, &routepb.Answer{Number: q.Number, Failure: refusal})
			continue
		}
		p.underWay[q.Number] = struct{}{}
		f := &all[i]
		f.peer, f.life, f.number = p, m.Life, q.Number
		decodeRequest(&f.Request, q)
		f.Came = a.came.Add(-time.Duration(min(max(q.WaitMs, 0), maxWait)) * time.Millisecond)
		f.Origin = f
		requests = append(requests, slowRequest{Request: &f.Request, from: f, came: a.came})
	}
	p.mu.Unlock()
	if len(now.UnderWay)+len(now.Answers) > 0 {
		r.answerMany(p.name, &now)
	}
	if _, refused := r.handOver(requests); len(refused) > 0 {
		r.metrics.refused("node_queue")
		some := make([]*forwarded, len(refused))
		for i := range refused {
			some[i] = refused[i].from
		}
		p.refuse(some, errPeerFull)
	}
}

// takes reports whether m comes at its turn: it begins a round, or follows on the message before it.
func (p *peer) takes(m *routepb.Submit) bool {
	p.mu.Lock()
	if p.life != m.Life || p.lanes == nil {
		p.life = m.Life
		clear(p.underWay) // nobody asks for their answers any more
		p.lanes = make(map[uint32]*heard)
	}
	p.mu.Unlock()
	number := m.Lane % maxLanes
	h := p.lanes[number]
	switch {
	case h == nil && m.Place == 0:
		h = new(heard)
		p.lanes[number] = h
	case h != nil && m.Place == 0 && m.Round > h.round:
	case h != nil && m.Place == h.place && m.Round == h.round:
	default:
		return false
	}
	h.round, h.place = m.Round, m.Place+1
	return true
}

// maxLanes is how many lanes of a node are told apart. Nodes of another version may have more or fewer than
// this one.
const maxLanes = 256

// outgoing are answers to other nodes.
type outgoing struct {
	to []reply
}

type reply struct {
	peer *peer
	m    routepb.Answers
	size int
}

// add adds the answer to a request of another node.
func (o *outgoing) add(f *forwarded, a *conv.Answer) {
	f.peer.mu.Lock()
	if f.peer.life == f.life {
		delete(f.peer.underWay, f.number)
	}
	f.peer.mu.Unlock()
	answer := encodeAnswer(f.number, a)
	size := 32 + answer.SizeVT()
	for i := range o.to {
		if r := &o.to[i]; r.peer == f.peer && r.m.Life == f.life && r.size+size <= maxBody {
			r.m.Answers = append(r.m.Answers, answer)
			r.size += size
			return
		}
	}
	o.to = append(o.to, reply{peer: f.peer, m: routepb.Answers{Life: f.life, Answers: []*routepb.Answer{answer}}, size: size})
}

// send sends what was added.
func (o *outgoing) send() {
	for i := range o.to {
		r := &o.to[i]
		r.peer.router.answer(r.peer.name, &r.m)
	}
}

// answer sends m to a node. If it is lost the node hears of a gap, or asks again.
func (r *Router) answer(to string, m *routepb.Answers) {
	body, err := m.MarshalVT()
	if err != nil {
		panic(err) // no message of ours fails
	}
	r.metrics.answered.Add(float64(len(m.Answers)))
	if err := r.bus.Send(to, bus.KindAnswer, body); err != nil {
		r.metrics.unsent.Inc()
	}
}
