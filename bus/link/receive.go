package link

import (
	"time"

	"github.com/pim-im/pim/bus"
)

// receive takes a frame off the network.
func (n *Node) receive(frame []byte) {
	h, body, err := open(frame)
	if err != nil {
		n.metrics.dropped(dropMalformed)
		n.log.Debug("a frame is not understood", "error", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed || n.leaving:
		return
	case h.from == n.name:
		n.meetNamesake(&h)
		return
	case h.toRun != 0 && h.toRun != n.run:
		n.metrics.dropped(dropOtherRun)
		return
	}
	p := n.hear(&h)
	if p == nil {
		n.metrics.dropped(dropOtherRun)
		return
	}
	direct := h.toRun != 0
	switch h.kind {
	case frameBeat:
		n.takeBeat(p, &h, body)
	case frameLeave:
		if p.in {
			n.takeLeave(p, &h)
		}
		return
	case frameMessage:
		n.takeMessage(p, &h, body)
	case frameRequest:
		n.takeRequest(p, &h, body)
	case frameAnswer:
		n.takeAnswer(p, &h, body)
	case frameCancel:
		if cancel := n.answering[answerID{p.name, h.run, h.id}]; cancel != nil {
			cancel()
		}
	}
	if direct && (h.kind == frameBeat || h.kind == frameMark) {
		n.takeMark(p, &h)
	}
	if direct {
		n.enter(p)
	}
}

// meetNamesake sees a frame of another process that has this node's name. n.mu is held.
func (n *Node) meetNamesake(h *head) {
	if h.run != n.run && !n.warned {
		n.warned = true
		n.log.Error("another process has this node's name; give each node its own --node", "node", n.name)
	}
}

// hear returns the node that a frame is from, nil if a later run of it is there. n.mu is held.
func (n *Node) hear(h *head) *peer {
	p := n.peers[h.from]
	if p == nil {
		p = &peer{name: h.from, run: h.run, next: 1}
		n.peers[p.name] = p
	}
	switch {
	case h.run == p.run:
	case h.run < p.run && p.in:
		return nil
	default: // started again; if its clock was set back meanwhile, the earlier run is out by now
		if p.in || p.theirs != 0 {
			n.arrive(p, arrival{gap: true})
		}
		if p.in {
			n.drop(p, "was started again")
		}
		p.run, p.node, p.theirs, p.next, p.link, p.last = h.run, bus.Node{}, 0, 1, 0, 0
	}
	if h.toRun != 0 || !p.in {
		p.heard = time.Now()
	}
	if p.link == 0 {
		n.links++
		p.link = n.links
		if _, missed := n.missed[p.name]; missed {
			delete(n.missed, p.name)
			p.last = 1
		}
	}
	return p
}

// takeBeat takes what a node says of itself. n.mu is held.
func (n *Node) takeBeat(p *peer, h *head, body []byte) {
	node, err := decodeNode(h, body)
	if err != nil {
		n.metrics.dropped(dropMalformed)
		return
	}
	before := p.node
	p.node = node
	switch {
	case p.in && before != node:
		n.seeChange(differ(&before, &node))
	case !p.in && h.toRun == 0:
		n.sendBeat(p) // which is for it alone, so that it takes this node into its view
	}
}

// enter takes a node into the view from which a frame for this node alone has come. n.mu is held.
func (n *Node) enter(p *peer) {
	if p.in || p.node.Run != p.run {
		return // it is there, or no beat of it has come yet
	}
	p.in = true
	what := "is there"
	if p.met {
		what = "is back"
	}
	p.met = true
	n.log.Info("node "+p.name+" "+what, "site", p.node.Site, "run", p.run)
	n.sendBeat(p)
	n.seeChange(true)
}

// takeLeave takes a node out of the view that ends. Its word says which number was the last one, so that nothing is
// taken for lost if all has come. Earlier versions do not say it. n.mu is held.
func (n *Node) takeLeave(p *peer, h *head) {
	const why = "has left"
	if h.link == 0 {
		n.lose(p, why)
		return
	}
	n.takeMark(p, h)
	p.theirs, p.next = 0, 1 // a later run is no gap
	n.drop(p, why)
}

// lose takes a node out of the view whose last messages may be lost. n.mu is held.
func (n *Node) lose(p *peer, why string) {
	n.arrive(p, arrival{gap: true})
	n.drop(p, why)
}

func (n *Node) drop(p *peer, why string) {
	p.in = false
	n.log.Info("node "+p.name+" "+why, "run", p.run)
	for id, a := range n.waiting {
		if a.peer == p {
			n.settle(id, nil, errNotThere(p.name))
		}
	}
	n.seeChange(true)
}

// follow reports whether a number is of the link that p's numbers come on, having begun a newer one.
// n.mu is held.
func (n *Node) follow(p *peer, h *head) bool {
	switch {
	case h.link < p.theirs:
		return false
	case h.link > p.theirs:
		if p.theirs != 0 {
			n.arrive(p, arrival{gap: true})
		}
		p.theirs, p.next = h.link, 1
	}
	return true
}

// takeMark takes the last number that p used. n.mu is held.
func (n *Node) takeMark(p *peer, h *head) {
	if n.follow(p, h) && h.number >= p.next {
		n.arrive(p, arrival{gap: true})
		p.next = h.number + 1
	}
}

// takeMessage takes a message. n.mu is held.
func (n *Node) takeMessage(p *peer, h *head, body []byte) {
	if !n.follow(p, h) || h.number < p.next {
		n.metrics.dropped(dropDouble)
		return
	}
	if h.number > p.next {
		n.arrive(p, arrival{gap: true})
	}
	p.next = h.number + 1
	n.metrics.received(h.message, len(body))
	if n.handler.Receive[h.message] == nil {
		n.metrics.dropped(dropKind)
		return
	}
	n.arrive(p, arrival{kind: h.message, body: body})
}

// arrive has the Handler called, in the order of the calls. n.mu is held.
func (n *Node) arrive(p *peer, a arrival) {
	if last := len(p.arrived) - 1; a.gap && last >= 0 && p.arrived[last].gap {
		return
	}
	size := len(a.body) + perItem
	if !a.gap && p.arrivedBytes+size > takeBytes {
		n.metrics.dropped(dropSlow)
		n.arrive(p, arrival{gap: true})
		return
	}
	if a.gap {
		n.metrics.gaps.Inc()
	}
	p.arrived = append(p.arrived, a)
	p.arrivedBytes += size
	if !p.taking {
		p.taking = true
		n.work.Go(func() { n.take(p) })
	}
}

// take calls the Handler with what has arrived from p until there is nothing left.
func (n *Node) take(p *peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(p.arrived) > 0 && !n.closed {
		batch := p.arrived
		p.arrived = nil
		for _, a := range batch {
			n.mu.Unlock()
			n.handle(p.name, a)
			n.mu.Lock()
			p.arrivedBytes -= len(a.body) + perItem
			if n.closed {
				break
			}
		}
	}
	p.taking = false
	n.rest()
}

func (n *Node) handle(from string, a arrival) {
	if !a.gap {
		n.handler.Receive[a.kind](from, a.body)
		return
	}
	for _, gap := range n.handler.Gap {
		gap(from)
	}
}
