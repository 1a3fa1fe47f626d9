package home

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/home/homepb"
)

// The home's part in connections: gateways tell it which devices connect and go.

// receiveJoin takes a device that connects to another node, and answers when an older connection of
// it has ended.
func (h *Home) receiveJoin(from string, data []byte) {
	var m homepb.Join
	if err := m.UnmarshalVT(data); err != nil || m.Device == nil {
		h.damaged(err)
		return
	}
	g := h.gate(from)
	e := h.enter(g, m.Device, h.connections)
	answer := &homepb.Joined{Request: m.Request, Refusal: homepb.Refusal(e.refused), Connections: uint32(e.others)}
	if e.replaced == nil {
		h.send(from, bus.KindJoined, answer)
		return
	}
	ready := func() { h.send(from, bus.KindJoined, answer) }
	if !h.start(func() { h.replace(pim.UserID(m.Device.User), e.replaced, ready) }) {
		ready()
	}
}

// enter notes that a device is at a gateway.
func (h *Home) enter(g *gate, d *homepb.Device, limit int) entered {
	once(&h.known)
	return h.directory.enter(pim.UserID(d.User), place{
		device: pim.DeviceID(d.Device), gate: g, conn: d.Connection, told: g.told.Load(),
		opened: (h.mono() - time.Duration(min(d.AgeMs, maxAge))*time.Millisecond).Milliseconds(),
	}, limit)
}

// maxAge is above the age of any connection: a hundred years, in ms.
const maxAge = 100 * 365 * 24 * 3600 * 1000

// replace ends a connection of u that is no longer in the directory, because its device has connected to another
// node. It calls ready when nothing of the connection is on its way any more and the device's
// acknowledgements are stored, or after replacement. If the gateway does not answer, replace asks it again, until it
// is gone: then it announces the connection when it comes back.
func (h *Home) replace(u pim.UserID, p *place, ready func()) {
	h.metrics.replaced.Inc()
	done := h.replaceOnce(u, p)
	ready()
	for !done {
		select {
		case <-time.After(again):
		case <-h.ctx.Done():
			return
		}
		h.mu.Lock()
		gone := h.peers[p.gate.name] == nil
		h.mu.Unlock()
		done = gone || h.replaceOnce(u, p)
	}
}

// replaceOnce asks the gateway of a connection to end it. It reports whether that has been done, and
// takes replacement at most.
func (h *Home) replaceOnce(u pim.UserID, p *place) bool {
	ctx, cancel := context.WithTimeout(h.ctx, replacement)
	defer cancel()
	select {
	case h.replacing <- struct{}{}:
		defer func() { <-h.replacing }()
	case <-ctx.Done():
		return false
	}
	if p.gate.name == h.self {
		h.replaceHere(ctx, u, p.device, p.conn)
		return true
	}
	m := &homepb.Replace{Device: &homepb.Device{User: string(u), Device: string(p.device), Connection: p.conn}}
	b, err := m.MarshalVT()
	if err == nil {
		_, err = h.bus.Request(ctx, p.gate.name, bus.KindReplace, b)
	}
	return err == nil
}

// receiveLeave takes a device that is gone from another node.
func (h *Home) receiveLeave(from string, data []byte) {
	var m homepb.Leave
	if err := m.UnmarshalVT(data); err != nil || m.Device == nil {
		h.damaged(err)
		return
	}
	u := pim.UserID(m.Device.User)
	h.goes(u, pim.Millis(m.SeenMs))
	h.directory.remove(u, pim.DeviceID(m.Device.Device), h.gate(from), m.Device.Connection)
}

// receiveAnnounce takes devices that are at another node, and what else a KindAnnounce says.
func (h *Home) receiveAnnounce(from string, data []byte) {
	var m homepb.Announce
	if err := m.UnmarshalVT(data); err != nil {
		h.damaged(err)
		return
	}
	switch {
	case m.Farewell:
		h.parts(from)
		h.send(from, bus.KindJoined, &homepb.Joined{Request: m.Request})
		return
	case m.Wanted:
		h.announceAll(from)
		return
	}
	g := h.gate(from)
	if m.Begins {
		g.told.Add(1)
	}
	c, now := h.cluster.Load(), h.mono()
	answer := &homepb.Joined{Request: m.Request}
	for i, d := range m.Devices {
		e := h.enter(g, d, 0)
		if e.refused == full {
			answer.Refusal = homepb.Refusal_REFUSAL_FULL
			break
		}
		h.replaceOther(pim.UserID(d.User), e, place{device: pim.DeviceID(d.Device), gate: g, conn: d.Connection})
		if e.refused == accepted && !e.known && h.strayed(c, now, pim.UserID(d.User)) {
			answer.Missed = append(answer.Missed, uint32(i))
		}
	}
	if m.Ends {
		h.mu.Lock()
		h.ended[g] = g.told.Load()
		delete(h.wanted, from)
		h.mu.Unlock()
		h.poke()
	}
	h.send(from, bus.KindJoined, answer)
}

// parts notes that a node has said everything. The bus may have met a later process of it already, or this home may
// not have heard of that yet: then nobody knows whose farewell it is, and none is noted.
func (h *Home) parts(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.bus.View().Node(name)
	if p := h.peers[name]; p != nil && (n == nil || n.Run == p.run) {
		p.parted.Store(true)
	}
}

// strays are the users for whom this home got pushes while their gateways may not have told it of
// all their devices. It remembers them for one to two spans.
type strays struct {
	span   time.Duration
	mu     sync.Mutex
	now    map[uint64]struct{} // hashes
	before map[uint64]struct{}
	turned time.Duration
}

const (
	maxStrays = 1 << 16
	anybody   = 0 // the hash that stands for all users, when there are too many
)

var straySeed = maphash.MakeSeed()

func strayHash(u pim.UserID) uint64 { return maphash.String(straySeed, string(u)) | 1 }

// turn forgets what is old. The caller holds s.mu.
func (s *strays) turn(now time.Duration) {
	if age := now - s.turned; age >= s.span {
		s.before, s.now = s.now, nil
		if s.turned = now; age >= 2*s.span {
			s.before = nil
		}
	}
}

func (s *strays) add(now time.Duration, u pim.UserID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if s.now == nil {
		s.now = make(map[uint64]struct{})
	}
	if len(s.now) >= maxStrays {
		s.now[anybody] = struct{}{}
		return
	}
	s.now[strayHash(u)] = struct{}{}
}

func (s *strays) has(now time.Duration, u pim.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	for _, hash := range []uint64{strayHash(u), anybody} {
		if _, ok := s.now[hash]; ok {
			return true
		}
		if _, ok := s.before[hash]; ok {
			return true
		}
	}
	return false
}

// stray notes that this home got a push for u, if a gateway may have a device of u that this home does not know yet:
// this home has u since a short time only, or another node sees a view in which it has u. known says that
// this home knows other devices of u. One that is announced later has missed the push all the same; but a home that
// had u until now knew all of them.
func (h *Home) stray(c *cluster, now time.Duration, u pim.UserID, known bool) {
	switch p := c.homeOf(u); {
	case !h.moves(c, now, u):
	case !known:
		h.strays.add(now, u)
	case p != nil && p.self:
		h.partial.add(now, u)
	}
}

// passTo returns the home that may know devices of u, of whom this home knows none: the one that this
// node takes for u's home, or the one that was it lately, and keeps devices for grace. nil: there
// is none.
func (h *Home) passTo(c *cluster, now time.Duration, u pim.UserID) *peer {
	if p := c.homeOf(u); p == nil || !p.self {
		return p
	}
	for _, e := range slices.Backward(c.earlier) {
		if now-e.until > grace {
			break
		}
		if name, ok := e.homes.Of(string(pim.Own(u))); ok && name != h.self && c.peers[name] != nil {
			return c.peers[name]
		}
	}
	return nil
}

// moves reports whether u is one of those whom this home has since a short time, or not yet.
func (h *Home) moves(c *cluster, now time.Duration, u pim.UserID) bool {
	p := c.homeOf(u)
	if p == nil || !p.self {
		return true
	}
	for _, e := range c.earlier {
		if now-e.until > grace {
			continue
		}
		if name, ok := e.homes.Of(string(pim.Own(u))); !ok || name != p.name {
			return true
		}
	}
	return false
}

// strayed reports whether pushes for u may have been lost before this home knew the device that is
// announced now: they came before the gateways had told it of all devices of u, or a writer's messages were lost.
func (h *Home) strayed(c *cluster, now time.Duration, u pim.UserID) bool {
	suspect := h.suspect.Load()
	return !h.moves(c, now, u) || suspect != 0 && now-time.Duration(suspect) <= grace ||
		h.strays.has(now, u) || h.partial.has(now, u)
}
