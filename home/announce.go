package home

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/home/homepb"
)

// The gateway announces devices to homes that do not know them: because their users have another home
// since the view changed, because the home asks for it, or because messages were lost. Each
// message waits for the answer to the one before, so that a gateway of many devices does not flood a home.

// announceMany is how many devices one KindAnnounce has at most: some 100 KiB.
const announceMany = 1000

var wantedAll message = &homepb.Announce{Wanted: true}

// move gives links the homes that c names, and announces them there.
func (h *Home) move(c *cluster) {
	moved := make(map[*peer][]*link)
	h.links.each(func(k *link) {
		p := c.homeOf(k.user)
		if p == k.home {
			return
		}
		k.missed = k.missed || k.home == nil || !k.known || c.peers[k.home.name] != k.home && !k.home.parted.Load()
		k.home, k.known = p, false
		if p != nil {
			moved[p] = append(moved[p], k)
		}
	})
	for p, links := range moved {
		h.announce(p, links...)
	}
}

// enterOwn enters links of which this node is the home.
func (h *Home) enterOwn(p *peer, links []*link) {
	self, c, now := h.gate(h.self), h.cluster.Load(), h.mono()
	var behind []*link
	for _, k := range links {
		h.links.locked(k, func() { k.tells(h.self) })
		e := h.enter(self, h.device(k), 0)
		missed := false
		h.links.locked(k, func() {
			switch {
			case k.gone || k.home != p:
				h.directory.remove(k.user, k.device, self, k.conn)
			case e.refused == full:
			default:
				missed = k.joined && (k.missed || !e.known && h.strayed(c, now, k.user))
				k.known, k.missed, k.warned = true, false, false
			}
		})
		if missed {
			behind = append(behind, k)
		}
		h.replaceOther(k.user, e, place{device: k.device, gate: self, conn: k.conn})
	}
	h.behind(behind)
}

// replaceOther has the connection replaced that is not the newest one of its device: p, or the one that was there
// before p was entered with e.
func (h *Home) replaceOther(u pim.UserID, e entered, p place) {
	switch {
	case e.refused == older:
		h.start(func() { h.replace(u, &p, func() {}) })
	case e.replaced != nil:
		h.start(func() { h.replace(u, e.replaced, func() {}) })
	}
}

// announce has links announced to their home p.
func (h *Home) announce(p *peer, links ...*link) {
	if p.self {
		h.enterOwn(p, links)
		return
	}
	h.mu.Lock()
	p.waiting = append(p.waiting, links...)
	start := h.announcing(p)
	h.mu.Unlock()
	if start {
		h.start(func() { h.announceTo(p) })
	}
}

// announceFormer announces k, which is new, to the nodes that were its user's home less than grace ago, except this
// one. Writers that have not heard of the change yet send them pushes, and the home may be one that they do not know.
func (h *Home) announceFormer(k *link) {
	c, now := h.cluster.Load(), h.mono()
	var seen []*peer
	for _, e := range c.earlier {
		name, _ := e.homes.Of(string(pim.Own(k.user)))
		p := c.peers[name]
		if p == nil || p.self || now-e.until > grace || slices.Contains(seen, p) {
			continue
		}
		seen = append(seen, p)
		told := false
		h.links.locked(k, func() { told = k.home == p || slices.Contains(k.told, name) })
		if !told {
			h.announce(p, k)
		}
	}
}

// announceAll has all links announced to a node whose home it is, or was lately.
func (h *Home) announceAll(name string) {
	h.mu.Lock()
	p := h.peers[name]
	if p == nil || p.self {
		h.mu.Unlock()
		return
	}
	p.whole = true
	start := h.announcing(p)
	h.mu.Unlock()
	if start {
		h.start(func() { h.announceTo(p) })
	}
}

// announcing notes that somebody announces to p. It reports whether the caller must start that. The
// caller holds h.mu.
func (h *Home) announcing(p *peer) (start bool) {
	start = !p.announce && !p.gone
	p.announce = p.announce || start
	return start
}

// announceTo announces what is to be announced to p, until nothing is.
func (h *Home) announceTo(p *peer) {
	for h.ctx.Err() == nil {
		h.mu.Lock()
		some := p.waiting[:min(len(p.waiting), announceMany)]
		p.waiting = p.waiting[len(some):]
		whole := p.whole
		p.whole = false
		if p.gone || len(some) == 0 && !whole {
			p.announce, p.waiting = false, nil
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		ok := true
		if whole {
			ok = h.announceWhole(p)
		}
		ok = ok && h.announceSome(p, some, &homepb.Announce{})
		if ok {
			continue
		}
		h.giveUp(some)
		h.mu.Lock()
		p.waiting = append(some, p.waiting...)
		p.whole = p.whole || whole
		h.mu.Unlock()
		select {
		case <-time.After(again):
		case <-h.ctx.Done():
		}
	}
}

// announceWhole announces all links whose home p is, or was lately: p forgets the others, and late pushes may still
// come to it. It tells p that it begins before it looks which these are: a link that comes meanwhile
// joins after that.
func (h *Home) announceWhole(p *peer) bool {
	if !h.announceSome(p, nil, &homepb.Announce{Begins: true}) {
		h.giveUp(h.linksOf(p.name))
		return false
	}
	all := h.linksOf(p.name)
	for {
		some := all[:min(len(all), announceMany)]
		if !h.announceSome(p, some, &homepb.Announce{Ends: len(all) == len(some)}) {
			h.giveUp(all)
			return false
		}
		if all = all[len(some):]; len(all) == 0 {
			return true
		}
	}
}

// announceSome announces those of links that are not gone to p, with m. It reports whether p has answered.
func (h *Home) announceSome(p *peer, links []*link, m *homepb.Announce) bool {
	var told []*link
	for _, k := range links {
		h.links.locked(k, func() {
			if !k.gone {
				k.tells(p.name)
				told = append(told, k)
				m.Devices = append(m.Devices, h.device(k))
			}
		})
	}
	if len(told) == 0 && !m.Begins && !m.Ends {
		return true
	}
	h.metrics.announced.Add(float64(len(told)))
	answer, err := h.question(h.ctx, p, bus.KindAnnounce, m, func(id uint64) { m.Request = id })
	ok := err == nil && refusal(answer.Refusal) != full
	missed := make(map[uint32]bool)
	if ok {
		for _, i := range answer.Missed {
			missed[i] = true
		}
	}
	var behind []*link
	for i, k := range told {
		gone := false
		h.links.locked(k, func() {
			if gone = k.gone; gone || !ok {
				return
			}
			if k.joined && (missed[uint32(i)] || k.missed && k.home == p) {
				behind = append(behind, k)
			}
			if k.home == p {
				k.known, k.missed, k.warned = true, false, false
			}
		})
		if gone { // it may have gone before p was told of it
			h.leave(p.name, k)
		}
	}
	h.behind(behind)
	return ok
}

// giveUp has those of links told to sync, once, that have missed pushes, although their home does not know
// them yet.
func (h *Home) giveUp(links []*link) {
	var behind []*link
	for _, k := range links {
		h.links.locked(k, func() {
			if k.missed && !k.warned && !k.gone {
				k.warned = true
				behind = append(behind, k)
			}
		})
	}
	h.behind(behind)
}

// gap is told that messages from a node may be lost.
func (h *Home) gap(from string) {
	h.metrics.gaps.Inc()
	h.hintsLost(from)
	h.mu.Lock()
	if h.peers[from] != nil {
		h.wanted[from] = 0
	}
	h.suspects()                // what is lost may have come from a writer
	late := h.closing && h.warn // there is no keeper any more
	h.mu.Unlock()
	if late {
		h.tellBehind()
		return
	}
	h.missed(from)
	h.announceAll(from)
	h.poke()
}

// missed has all devices told to sync whose home a node is, or was lately. Those that their home does not know yet
// are told when it knows them.
func (h *Home) missed(from string) {
	var known []*link
	for _, k := range h.linksOf(from) {
		h.links.locked(k, func() {
			if k.home != nil && k.home.name != from && k.known {
				known = append(known, k)
			} else {
				k.missed = true
			}
		})
	}
	h.behind(known)
}

// tellBehind tells all gateways of devices that this home knows that their pushes may be lost.
func (h *Home) tellBehind() {
	h.mu.Lock()
	var gates []*gate
	for _, g := range h.gates {
		if g.places.Load() > 0 && g.name != h.self {
			gates = append(gates, g)
		}
	}
	h.mu.Unlock()
	for _, g := range gates {
		h.send(g.name, bus.KindBehind, &homepb.Behind{})
	}
	h.behind(h.linksOf(h.self))
}

// receiveBehind has all devices told to sync whose home the sender is, or was lately. If a writer has missed this home
// for a while, these are all devices that the home knows.
func (h *Home) receiveBehind(from string, data []byte) {
	var m homepb.Behind
	if err := m.UnmarshalVT(data); err != nil {
		h.damaged(err)
		return
	}
	switch {
	case !m.Published:
		h.behind(h.linksOf(from))
	case !h.fresh():
		h.mu.Lock()
		h.suspects()
		if p := h.peers[from]; p == nil || h.mono()-p.met <= grace { // as in changed, if it drains already
			h.unseen.Store(true)
		}
		h.mu.Unlock()
		h.poke()
	}
}

// users are those of links, each once if its links stand together.
func users(links []*link) []pim.UserID {
	all := make([]pim.UserID, 0, len(links))
	for _, k := range links {
		if len(all) == 0 || all[len(all)-1] != k.user {
			all = append(all, k.user)
		}
	}
	return all
}
