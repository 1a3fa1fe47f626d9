package route

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// maxBody is how many bytes of requests, and of answers, go into one message, but for the last one
// in it: the largest one takes up less than what is left to bus.MaxBody.
const maxBody = 1 << 20

// send puts w into the batch for a node, or has it wait for its window. The caller must call flush.
func (l *lane) send(w *waiting, to string, now time.Time) {
	if to != l.router.self {
		n := l.link(to)
		if w.held == n {
			return // it keeps its place
		}
		l.land(w)
		w.to, w.sent = to, now
		if !n.takes(w) {
			n.hold(w)
			return
		}
		n.fly(w)
	} else {
		l.land(w)
		w.to, w.sent = to, now
	}
	l.batch(w)
}

// batch puts w into the batch for the node w.to.
func (l *lane) batch(w *waiting) {
	to := w.to
	for i := range l.out {
		if l.out[i].to == to {
			l.out[i].requests = append(l.out[i].requests, w)
			return
		}
	}
	if n := len(l.out); n < cap(l.out) {
		l.out = l.out[:n+1]
		l.out[n].to, l.out[n].requests = to, append(l.out[n].requests, w)
		return
	}
	l.out = append(l.out, batch{to, []*waiting{w}})
}

// flush sends the batches, and what has waited for a window that has room now.
func (l *lane) flush() {
	if len(l.freed) > 0 {
		l.release(time.Now())
	}
	for i := range l.out {
		b := &l.out[i]
		if b.to == l.router.self {
			l.queueHere(b.requests)
		} else {
			l.sendTo(b.to, b.requests)
		}
		clear(b.requests)
		if b.requests = b.requests[:0]; cap(b.requests) > 256 {
			b.requests = nil
		}
	}
	l.out = l.out[:0]
}

// sendTo sends requests to another node.
func (l *lane) sendTo(to string, requests []*waiting) {
	l.router.watch()
	n := l.link(to)
	f := &l.frame
	f.Life, f.Lane, f.Round = l.router.life, l.number, n.round
	for len(requests) > 0 {
		size, some := 0, 0
		for some < len(requests) && size < maxBody {
			if some == len(f.Requests) {
				f.Requests = append(f.Requests, new(routepb.Request))
			}
			if w := requests[some]; w.withdrawing {
				f.Requests[some].Number, f.Requests[some].Withdraw = w.number, w.withdrawals
			} else {
				m := f.Requests[some]
				encodeRequest(m, w.number, w.request)
				sending := w.sending()
				m.Attempt, m.AgeMs, m.WaitMs = sending.Attempt, int64(sending.Age), int64(sending.Wait)
			}
			size += f.Requests[some].SizeVT()
			some++
		}
		all := f.Requests
		f.Requests, f.Place = all[:some], n.place
		n.place++
		l.body = grown(l.body, f.SizeVT())
		if _, err := f.MarshalToSizedBufferVT(l.body); err != nil {
			panic(err) // no message of ours fails
		}
		for _, r := range f.Requests {
			*r = routepb.Request{Members: r.Members[:0], Mentions: r.Mentions[:0]}
		}
		f.Requests = all
		l.router.metrics.forwarded.Add(float64(some))
		if err := l.router.bus.Send(to, bus.KindSubmit, l.body); err != nil {
			n.lost = true // soon, not after two seconds: it is known that they are lost. The node has not been silent
		} else {
			run := l.runOf(to)
			for _, w := range requests[:some] {
				w.copied(to, run)
			}
		}
		requests = requests[some:]
	}
	if len(f.Requests) > 256 {
		f.Requests = nil
	}
	if cap(l.body) > 64<<10 {
		l.body = nil
	}
}

// sending returns what the writer is to know of the time of w. What is given to a node again may stand in the log behind
// what its sender sent later, and it must not be displayed there. So it is no first transmission any more, and
// it is older than the client said.
func (w *waiting) sending() pim.Sending {
	s := pim.Sending{Local: w.request.Local, Attempt: w.request.Attempt, Age: w.request.Age}
	now := time.Now()
	if w.told && (s.Attempt == 1 || s.Age > 0) { // else the client does not say when it was
		s.Attempt++
		s.Age += max(1, pim.Millis(now.Sub(w.began).Milliseconds()))
		now = w.began // what comes after that is in Age
	}
	if came := w.request.Came; !came.IsZero() {
		s.Wait = max(0, pim.Millis(now.Sub(came).Milliseconds()))
	}
	w.told = true
	return s
}

// runOf returns the run of a node, 0 if it is not there.
func (l *lane) runOf(node string) uint64 {
	if n := l.router.bus.View().Node(node); n != nil {
		return n.Run
	}
	return 0
}

// grown returns a slice of that length, which is b if b has room.
func grown(b []byte, length int) []byte {
	if cap(b) >= length {
		return b[:length]
	}
	return make([]byte, length, length+length/2)
}

// queueHere leaves copies of requests for writeHere. The writers own what they are given until they have
// answered, and another node may answer first: so the connection's own requests are not theirs.
func (l *lane) queueHere(requests []*waiting) {
	for _, w := range requests {
		w.copied(l.router.self, 0)
		c := *w.request
		c.Origin = w
		sending := w.sending()
		c.Attempt, c.Age = sending.Attempt, sending.Age
		if !c.Came.IsZero() {
			c.Came = time.Now().Add(-time.Duration(sending.Wait) * time.Millisecond)
		}
		l.here = append(l.here, slowRequest{Request: &c, lane: l})
	}
	l.queued.Add(int32(len(requests)))
	l.router.metrics.here.Add(float64(len(requests)))
	if !l.submitting {
		l.submitting = l.router.start(l.writeHere)
	}
}

// writeHere hands requests to the writers of this node until none is left. It does not hold mu
// meanwhile: Submit may wait, and may answer at once. What there is no room for is refused when the lane closes.
func (l *lane) writeHere() {
	for {
		l.mu.Lock()
		some := l.here
		l.here = nil
		if len(some) == 0 {
			l.submitting = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		atOnce, _ := l.router.handOver(some)
		l.queued.Add(int32(-atOnce))
	}
}

// receiveAnswers takes the body of a KindAnswer.
func (r *Router) receiveAnswers(from string, body []byte) {
	var m routepb.Answers
	if err := m.UnmarshalVT(body); err != nil {
		r.metrics.malformed.Inc()
		return
	}
	if m.Life != r.life {
		r.metrics.late.Add(float64(len(m.Answers)))
		return // to a Router before this one
	}
	r.takeAnswers(from, &m)
	if m.Missed != nil {
		r.lanes[m.Missed.Lane%lanes].missed(from, m.Missed.Round)
	}
	if m.Gap {
		r.again(from)
	}
}

// takeAnswers takes the answers of m, and hands those out that are the first to their requests.
func (r *Router) takeAnswers(from string, m *routepb.Answers) {
	r.handing.RLock()
	defer r.handing.RUnlock()
	now := time.Now()
	answers := make([]conv.Answer, 0, len(m.Answers))
	var l *lane
	enter := func(number uint64) {
		next := r.lanes[number%lanes]
		if l == next {
			return
		}
		if l != nil {
			l.flush()
			l.mu.Unlock()
		}
		l = next
		l.mu.Lock()
		n := l.link(from)
		n.silent, n.until = 0, time.Time{}
	}
	for _, a := range m.Answers {
		enter(a.Number)
		if w := l.of[a.Number]; w == nil {
			r.metrics.late.Inc()
		} else if answer, ok := l.answered(w, from, a, now); ok {
			answers = append(answers, answer)
		}
	}
	for _, number := range m.UnderWay {
		enter(number)
		if w := l.of[number]; w != nil && w.to == from {
			w.sent = now
		}
	}
	if l != nil {
		l.flush()
		l.mu.Unlock()
	}
	if len(answers) > 0 {
		r.gateway.Deliver(answers, nil)
	}
}

// answered takes the answer of a node to w. It returns the answer to w's request, and whether it is one to hand
// out: then w is out of the table.
func (l *lane) answered(w *waiting, from string, a *routepb.Answer, now time.Time) (answer conv.Answer, ok bool) {
	switch {
	case a.Withdrawn > 0:
		if w.withdrawing && a.Withdrawn == w.withdrawals { // else it is late: w may have been sent since
			w.gone(from)
			w.withdraw(now)
		}
		return answer, false
	case a.Failure != nil:
		err := decodeFailure(a.Failure)
		if !pim.KindOf(err).Retryable() {
			w.refusedBy(from)
		} else if w.withdrawing {
			return answer, false // it is not what was asked
		}
		if l.elsewhere(w, from, a, now) || !w.settled(err, now) {
			return answer, false
		}
		return l.giveBack(w, err), true
	}
	l.remove(w)
	return decodeAnswer(a, w.request), true
}

// elsewhere has another node asked if a is the refusal of a node that can't write now. It reports whether w
// still waits.
func (l *lane) elsewhere(w *waiting, from string, a *routepb.Answer, now time.Time) bool {
	if !isOfNode(a.Failure) {
		return false
	}
	if w.to != from {
		return true // another node has been asked already
	}
	if w.refused || isGone(w.request) {
		return false
	}
	to := l.target(placed(w.request), now)
	if to == from && l.router.local != nil {
		to = l.router.self
	}
	if to == from || to == "" {
		return false
	}
	w.refused = true
	l.router.metrics.again("refused")
	l.send(w, to, now)
	return true
}

// giveAway has another node asked for r, which this node's writers have refused because of the node's clock. It reports
// whether one is.
func (l *lane) giveAway(r *conv.Request) bool {
	to := l.router.second(placed(r))
	l.mu.Lock()
	defer l.mu.Unlock()
	if to == "" || isGone(r) || l.admit(r, to) != nil {
		return false
	}
	if r.Kind == pim.EntryCreate {
		r.Conversation = "" // this node's writers have given it one, and so will the other's
	}
	now := time.Now()
	w := l.add(r, now)
	w.refused = true
	l.router.metrics.again("refused")
	l.send(w, to, now)
	l.flush()
	return true
}
