package link

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// outgoing is a frame that waits to be sent.
type outgoing struct {
	to    *peer  // nil: all
	head  head   // without from and run
	frame []byte // headRoom bytes, and the body
}

func (o *outgoing) bytes() int { return len(o.frame) + perItem }

// Send implements bus.Bus.
func (n *Node) Send(to string, k bus.Kind, body []byte) error {
	if to == n.name {
		return pim.Errorf(pim.KindInvalid, "a message of node %s to itself", to)
	}
	var frame []byte
	if len(body) <= bus.MaxBody {
		frame = make([]byte, headRoom+len(body))
		copy(frame[headRoom:], body)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[to]
	if p == nil || p.link == 0 {
		if len(n.missed) < strangers {
			n.missed[to] = struct{}{}
		}
		n.metrics.dropped(dropUnknown)
		return errNotThere(to)
	}
	p.last++ // used up whatever comes of it
	switch {
	case frame == nil:
		n.metrics.dropped(dropTooLarge)
		return pim.Errorf(pim.KindInvalid, "a message of %d bytes to node %s, at most %d are allowed", len(body), to, bus.MaxBody)
	case !p.in:
		n.metrics.dropped(dropUnknown)
		return errNotThere(to)
	}
	out := &outgoing{to: p, head: head{kind: frameMessage, toRun: p.run, link: p.link, number: p.last, message: k}, frame: frame}
	if err := n.enqueue(out); err != nil {
		return err
	}
	n.metrics.sent(k, len(body))
	return nil
}

func errNotThere(name string) error {
	return pim.Errorf(pim.KindUnavailable, "node %s is not there", name)
}

// enqueue has a frame sent, unless too much waits already. n.mu is held.
func (n *Node) enqueue(out *outgoing) error {
	if n.closed {
		return errClosed()
	}
	size := out.bytes()
	if out.to.queueBytes+size > sendBytes || n.queueBytes+size > sendAllBytes {
		n.metrics.dropped(dropSendQueue)
		return pim.Errorf(pim.KindUnavailable, "what waits to be sent to node %s is too much", out.to.name)
	}
	n.push(out)
	return nil
}

// push has a frame sent; beats and marks are small and few, and the queue takes them beyond its bounds
// unless the network is stuck. n.mu is held.
func (n *Node) push(out *outgoing) {
	if n.queueBytes > 2*sendAllBytes {
		return
	}
	n.queue = append(n.queue, out)
	n.queueBytes += out.bytes()
	n.metrics.waiting.Set(float64(n.queueBytes))
	if out.to != nil {
		out.to.queueBytes += out.bytes()
	}
	if !n.sending {
		n.sending = true
		n.sent = make(chan struct{})
		n.work.Go(n.empty)
	}
}

// unqueue takes a frame off what waits. n.mu is held.
func (n *Node) unqueue(out *outgoing) {
	n.queueBytes -= out.bytes()
	n.metrics.waiting.Set(float64(n.queueBytes))
	if out.to != nil {
		out.to.queueBytes -= out.bytes()
	}
}

// empty sends what is in the queue until there is nothing left.
func (n *Node) empty() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) > 0 {
		batch := n.queue
		n.queue = nil
		n.mu.Unlock()
		for _, out := range batch {
			n.transmit(out)
		}
		n.mu.Lock()
		for _, out := range batch {
			n.unqueue(out)
		}
	}
	n.sending = false
	close(n.sent)
	n.sent = nil
	n.rest()
}

// transmit hands a frame to the network. What is lost with an error is seen by the receiver.
func (n *Node) transmit(out *outgoing) {
	out.head.from, out.head.run = n.name, n.run
	frame, err := out.head.seal(out.frame)
	switch {
	case err != nil:
	case out.to == nil:
		err = n.network.Broadcast(frame)
	default:
		err = n.network.Send(out.to.name, frame)
	}
	if err != nil {
		n.metrics.dropped(dropNetwork)
		n.log.Debug("a frame is not sent", "error", err)
	}
}

// sendBeat tells to, or all if it is nil, what this node is. n.mu is held.
func (n *Node) sendBeat(to *peer) {
	h := head{kind: frameBeat}
	if to != nil {
		h.toRun, h.link, h.number = to.run, to.link, to.last
	}
	n.push(&outgoing{to: to, head: h, frame: encodeNode(&n.self)})
}
