package link

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link/linkpb"
)

// asked is a request of this node that waits for its answer.
type asked struct {
	peer *peer
	done chan answer // of one place
}

type answer struct {
	body []byte
	err  error
}

// answerID names a request that this node answers.
type answerID struct {
	from string
	run  uint64
	id   uint64
}

// Request implements bus.Bus. Without a deadline of ctx, or with a later one, it waits for ten seconds, after
// which the error is of KindUnavailable.
func (n *Node) Request(ctx context.Context, to string, k bus.Kind, body []byte) ([]byte, error) {
	switch {
	case to == n.name:
		return nil, pim.Errorf(pim.KindInvalid, "a request of node %s to itself", to)
	case len(body) > bus.MaxBody:
		return nil, pim.Errorf(pim.KindInvalid, "a request of %d bytes to node %s, at most %d are allowed", len(body), to, bus.MaxBody)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	wait := waitMost
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(end), time.Millisecond))
	}
	frame := make([]byte, headRoom+len(body))
	copy(frame[headRoom:], body)
	id, a, err := n.ask(to, head{kind: frameRequest, message: k, waitMS: uint32(wait / time.Millisecond)}, frame)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(waitMost)
	defer timer.Stop()
	select {
	case got := <-a.done:
		return got.body, got.err
	case <-timer.C:
		err = pim.Errorf(pim.KindUnavailable, "node %s has not answered for %s", to, waitMost)
	case <-ctx.Done():
		err = ctx.Err()
	}
	n.giveUp(id, a)
	return nil, err
}

// ask sends a request.
func (n *Node) ask(to string, h head, frame []byte) (uint64, *asked, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[to]
	if p == nil || !p.in {
		return 0, nil, errNotThere(to)
	}
	n.requests++
	h.toRun, h.id = p.run, n.requests
	if err := n.enqueue(&outgoing{to: p, head: h, frame: frame}); err != nil {
		return 0, nil, err
	}
	n.metrics.sent(h.message, len(frame)-headRoom)
	a := &asked{peer: p, done: make(chan answer, 1)}
	n.waiting[h.id] = a
	return h.id, a, nil
}

// giveUp tells the answering node that nobody waits any longer.
func (n *Node) giveUp(id uint64, a *asked) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[id] != a {
		return
	}
	delete(n.waiting, id)
	if !n.closed && a.peer.in {
		n.push(&outgoing{to: a.peer, head: head{kind: frameCancel, toRun: a.peer.run, id: id}, frame: make([]byte, headRoom)})
	}
}

// settle ends a request with its answer. n.mu is held.
func (n *Node) settle(id uint64, body []byte, err error) {
	if a := n.waiting[id]; a != nil {
		delete(n.waiting, id)
		a.done <- answer{body, err}
	}
}

// takeAnswer takes the answer to a request of this node. n.mu is held.
func (n *Node) takeAnswer(p *peer, h *head, body []byte) {
	a := n.waiting[h.id]
	if a == nil || a.peer != p {
		n.metrics.dropped(dropLate)
		return
	}
	if !h.failed {
		n.settle(h.id, body, nil)
		return
	}
	var pb linkpb.Failure
	if err := pb.UnmarshalVT(body); err != nil {
		n.metrics.dropped(dropMalformed)
		n.settle(h.id, nil, pim.Errorf(pim.KindUnavailable, "the answer of node %s is not understood: %w", p.name, err))
		return
	}
	n.settle(h.id, nil, &pim.Error{
		Op: pb.Op, Kind: pim.Kind(min(pb.Kind, 255)), Text: pb.Text, RetryAfter: time.Duration(pb.RetryAfterMs) * time.Millisecond,
	})
}

// takeRequest has a request answered in a goroutine of its own. n.mu is held.
func (n *Node) takeRequest(p *peer, h *head, body []byte) {
	n.metrics.received(h.message, len(body))
	id := answerID{p.name, h.run, h.id}
	do := n.handler.Answer[h.message]
	switch {
	case do == nil:
		n.metrics.dropped(dropKind)
		n.reply(p, id, nil, pim.Errorf(pim.KindUnsupported, "node %s answers no requests of kind %s", n.name, h.message))
		return
	case p.answering >= answers:
		n.metrics.dropped(dropAnswers)
		n.reply(p, id, nil, &pim.Error{Kind: pim.KindOverloaded, Text: "node " + n.name + " answers too many requests already", RetryAfter: changes})
		return
	case n.answering[id] != nil:
		n.metrics.dropped(dropDouble)
		return
	}
	// The asking node says when it waits no longer. Its own time goes first if that is lost.
	wait := min(time.Duration(h.waitMS)*time.Millisecond, waitMost) + Beat
	ctx, cancel := context.WithTimeout(n.ctx, wait)
	n.answering[id] = cancel
	p.answering++
	n.work.Go(func() {
		answer, err := do(ctx, p.name, body)
		cancel()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.answering, id)
		p.answering--
		n.reply(p, id, answer, err)
	})
}

// reply sends the answer to a request. n.mu is held.
func (n *Node) reply(p *peer, id answerID, body []byte, err error) {
	if err == nil && len(body) > bus.MaxBody {
		err = pim.Errorf(pim.KindInternal, "an answer of %d bytes of node %s, at most %d are allowed", len(body), n.name, bus.MaxBody)
	}
	out := &outgoing{to: p, head: head{kind: frameAnswer, toRun: id.run, id: id.id}}
	if err != nil {
		out.head.failed = true
		out.frame = encodeFailure(err)
	} else {
		out.frame = make([]byte, headRoom+len(body))
		copy(out.frame[headRoom:], body)
	}
	if n.enqueue(out) != nil {
		n.log.Debug("an answer is lost", "node", p.name)
	}
}

// failureText is how many bytes of an error's text go to the asking node at most.
const failureText = 4 << 10

// encodeFailure returns err as the body of an answer, behind headRoom bytes.
func encodeFailure(err error) []byte {
	pb := linkpb.Failure{Kind: uint32(pim.KindOf(err)), Text: err.Error()}
	var e *pim.Error
	switch {
	case errors.As(err, &e):
		pb.Op, pb.Text, pb.RetryAfterMs = e.Op, e.Text, uint64(max(e.RetryAfter.Milliseconds(), 0))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		pb.Kind = uint32(pim.KindUnavailable)
	}
	pb.Text = clean(pb.Text)
	pb.Op = clean(pb.Op)
	frame := make([]byte, headRoom+pb.SizeVT())
	if _, err := pb.MarshalToSizedBufferVT(frame[headRoom:]); err != nil {
		panic("bus/link: an error that fits is not encoded: " + err.Error())
	}
	return frame
}

// clean returns what of text can be sent: valid UTF-8 of at most failureText bytes.
func clean(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), failureText)], "")
}
