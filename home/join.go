package home

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home/homepb"
)

// The gateway's part in connections: it tells the homes which devices connect and go.

var _ gateway.Homes = (*Home)(nil)

// asked are the questions of this node to homes that have no answer yet.
type asked struct {
	mu   sync.Mutex
	last uint64
	wait map[uint64]question
}

type question struct {
	to     string
	answer chan *homepb.Joined // capacity 1
}

// ask returns the number of a question to a node, and where its answer comes. The caller calls forget.
func (a *asked) ask(to string) (uint64, chan *homepb.Joined) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wait == nil {
		a.wait = make(map[uint64]question)
	}
	a.last++
	ch := make(chan *homepb.Joined, 1)
	a.wait[a.last] = question{to, ch}
	return a.last, ch
}

func (a *asked) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.wait, id)
}

// answered passes an answer on, if somebody waits for it.
func (a *asked) answered(from string, m *homepb.Joined) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q, ok := a.wait[m.Request]; ok && q.to == from {
		delete(a.wait, m.Request)
		q.answer <- m
	}
}

func (h *Home) receiveJoined(from string, data []byte) {
	m := new(homepb.Joined)
	if err := m.UnmarshalVT(data); err != nil {
		h.damaged(err)
		return
	}
	h.asked.answered(from, m)
}

var errUnanswered = errors.New("the home did not answer")

// question sends m, whose number set sets, to p and waits for the answer, for patience at most.
func (h *Home) question(ctx context.Context, p *peer, k bus.Kind, m message, set func(id uint64)) (*homepb.Joined, error) {
	id, ch := h.asked.ask(p.name)
	defer h.asked.forget(id)
	set(id)
	if !h.send(p.name, k, m) {
		return nil, errUnanswered
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case answer := <-ch:
		return answer, nil
	case <-t.C:
		return nil, errUnanswered
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.ctx.Done():
		return nil, h.ctx.Err()
	}
}

// Join implements gateway.Homes. If the home does not answer within patience, the connection goes on
// without it, and the device is told to sync when the home knows it.
func (h *Home) Join(ctx context.Context, c gateway.Connection) error {
	h.metrics.joins.Inc()
	once(&h.known)
	k := h.links.add(c, h.mono()-c.Age, func(u pim.UserID) *peer { return h.cluster.Load().homeOf(u) })
	defer h.links.locked(k, func() { k.joined = true })
	h.announceFormer(k)
	var p *peer
	h.links.locked(k, func() {
		if p = k.home; p != nil {
			k.tells(p.name)
		}
	})
	if p == nil {
		h.later(k)
		return nil
	}
	var refused refusal
	var others int
	if p.self {
		e := h.enter(h.gate(h.self), h.device(k), h.connections)
		if refused, others = e.refused, e.others; e.replaced != nil {
			ready := make(chan struct{})
			if h.start(func() { h.replace(c.User, e.replaced, func() { close(ready) }) }) {
				<-ready
			}
		}
	} else {
		m := &homepb.Join{Device: h.device(k)}
		answer, err := h.question(ctx, p, bus.KindJoin, m, func(id uint64) { m.Request = id })
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			h.later(k)
			return nil
		}
		refused, others = refusal(answer.Refusal), int(answer.Connections)
	}
	if refused == tooMany || refused == older {
		h.links.remove(c)
	}
	switch refused {
	case tooMany:
		return pim.Errorf(pim.KindOverloaded, "user %s has %d connections", c.User, others)
	case older:
		return gateway.ErrReplaced
	case full:
		h.later(k)
		return nil
	}
	h.links.locked(k, func() {
		if k.home == p {
			k.known = true
		}
	})
	return nil
}

// later has k announced, whose home does not know it. Pushes may be lost until then.
func (h *Home) later(k *link) {
	h.metrics.unanswered.Inc()
	var p *peer
	h.links.locked(k, func() { p, k.missed = k.home, true })
	if p != nil {
		h.announce(p, k)
	}
	h.announceFormer(k)
}

// Stays implements gateway.Homes.
func (h *Home) Stays(c gateway.Connection) bool {
	stays := true
	h.links.of(c.User, c.ID, func(k *link) { stays = !k.replaced })
	return stays
}

// Leave implements gateway.Homes.
func (h *Home) Leave(c gateway.Connection) {
	k, told := h.links.remove(c)
	if k == nil {
		return
	}
	for _, name := range told { // an earlier home may become the home again
		h.leave(name, k)
	}
}

// leave tells a home that a connection is gone; see EndsSoon. A home that is not there has forgotten it, or is
// told of all connections when it is there again.
func (h *Home) leave(home string, k *link) {
	if home == h.self {
		h.goes(k.user, k.seen)
		h.directory.remove(k.user, k.device, h.gate(h.self), k.conn)
		return
	}
	if h.ends.Load() {
		return
	}
	if h.cluster.Load().peers[home] == nil {
		return
	}
	h.send(home, bus.KindLeave, &homepb.Leave{
		Device: &homepb.Device{User: string(k.user), Device: string(k.device), Connection: k.conn}, SeenMs: int64(k.seen),
	})
}

// device returns what a home is told of k.
func (h *Home) device(k *link) *homepb.Device {
	age := max(h.mono()-k.opened, 0)
	return &homepb.Device{User: string(k.user), Device: string(k.device), Connection: k.conn, AgeMs: uint64(age / time.Millisecond)}
}

// answerReplace ends a connection whose device has connected to another node.
func (h *Home) answerReplace(ctx context.Context, _ string, data []byte) ([]byte, error) {
	var m homepb.Replace
	if err := m.UnmarshalVT(data); err != nil || m.Device == nil {
		h.damaged(err)
		return nil, pim.Errorf(pim.KindInvalid, "a damaged message")
	}
	h.replaceHere(ctx, pim.UserID(m.Device.User), pim.DeviceID(m.Device.Device), m.Device.Connection)
	return nil, nil
}

// replaceHere is replace for a connection of this node.
func (h *Home) replaceHere(ctx context.Context, u pim.UserID, device pim.DeviceID, conn uint64) {
	h.links.of(u, conn, func(k *link) { k.replaced = true }) // before Replace, which does not find a connection whose handshake goes on
	h.sessions.Replace(ctx, u, device, conn)
}

// message is what nodes send each other.
type message interface{ MarshalVT() ([]byte, error) }

// encoded is a message that is encoded already.
type encoded []byte

// MarshalVT returns e.
func (e encoded) MarshalVT() ([]byte, error) { return e, nil }

// send sends a message to another node. It reports whether the bus has taken it.
func (h *Home) send(to string, k bus.Kind, m message) bool {
	b, err := m.MarshalVT()
	if err == nil {
		err = h.bus.Send(to, k, b)
	}
	if err != nil {
		h.metrics.unsent.Inc()
		h.log.Debug("a message was not sent", "node", to, "kind", k, "err", err)
	}
	return err == nil
}

// damaged notes that a message could not be read.
func (h *Home) damaged(err error) {
	h.metrics.damaged.Inc()
	h.log.Warn("a message of another node could not be read", "err", err)
}
