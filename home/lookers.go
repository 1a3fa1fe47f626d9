package home

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/home/homepb"
)

// The home's part in looks: it knows which gateways look at what, and says what they are told.

// asHome takes what m says to a home. It returns how many PIMTypings and looks have no room. The caller
// holds l.mu.
func (l *looks) asHome(g *gate, m *homepb.Hints) (dropped, refused int) {
	if m.Again {
		delete(l.wanted, g)
	}
	for _, id := range m.Ends {
		l.leave(g, pim.ConversationID(id))
	}
	for _, id := range m.Looks {
		if !l.enter(g, pim.ConversationID(id)) {
			refused++
			continue
		}
		l.to(g).told.add(pim.ConversationID(id))
	}
	for _, id := range m.Changed {
		l.tell(pim.ConversationID(id))
	}
	if m.Any {
		l.tellAny()
	}
	for _, t := range m.Typing {
		for _, to := range l.lookers[pim.ConversationID(t.Conversation)] {
			if !l.to(to).typing.add(typist{pim.UserID(t.User), pim.ConversationID(t.Conversation)}) {
				dropped++
			}
		}
	}
	return dropped, refused
}

// to returns what g is to be told. The caller holds l.mu.
func (l *looks) to(g *gate) *outgoing {
	if l.out[g] == nil {
		l.out[g] = new(outgoing)
	}
	return l.out[g]
}

// tell has all gateways told that look at a subject. The caller holds l.mu.
func (l *looks) tell(id pim.ConversationID) {
	for _, g := range l.lookers[id] {
		l.to(g).told.add(id)
	}
}

// tellAny has all gateways told that something at which they look may have changed. The caller holds l.mu.
func (l *looks) tellAny() {
	for g := range l.looking {
		l.to(g).any = true
	}
}

// enter notes that g looks at a subject. It reports whether there was room. The caller holds l.mu.
func (l *looks) enter(g *gate, id pim.ConversationID) bool {
	old := l.lookers[id]
	switch {
	case slices.Contains(old, g):
		return true
	case l.count >= maxLooks:
		return false
	}
	l.lookers[id] = append(old, g)
	l.looking[g]++
	l.count++
	l.known.Store(int64(len(l.lookers)))
	return true
}

// leave notes that g does not look at a subject any more. The caller holds l.mu.
func (l *looks) leave(g *gate, id pim.ConversationID) {
	gates := l.lookers[id]
	at := slices.Index(gates, g)
	if at < 0 {
		return
	}
	if gates = slices.Delete(gates, at, at+1); len(gates) == 0 {
		delete(l.lookers, id)
	} else {
		l.lookers[id] = gates
	}
	if l.looking[g]--; l.looking[g] == 0 {
		delete(l.looking, g)
	}
	l.count--
	l.known.Store(int64(len(l.lookers)))
}

// comesOrGoes is told that a user of the directory has got a first device, or lost the last one. A shard of the
// directory is locked.
func (h *Home) comesOrGoes(u pim.UserID) {
	l := &h.looks
	if l.known.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(pim.Own(u))
	l.poke()
}

// goes notes, before the directory does, that a user goes who was seen then.
func (h *Home) goes(u pim.UserID, seen pim.Millis) {
	if seen == 0 {
		return
	}
	l := &h.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	l.departures.add(h.mono(), u, seen)
}

// tellGateways adds to bodies what gateways are to be told, but for the subjects of which something may have changed:
// those it returns. The caller holds l.mu.
func (l *looks) tellGateways(body func(string) *homepb.Hints) (states []told) {
	for g, o := range l.out {
		for _, id := range o.told.take() {
			states = append(states, told{g, id})
		}
		if o.any {
			body(g.name).ToldAny = true
		}
		for _, t := range o.typing.take() {
			b := body(g.name)
			b.ToldTyping = append(b.ToldTyping, &homepb.Typing{Conversation: string(t.conversation), User: string(t.user)})
		}
		if o.any = false; len(o.told.list) == 0 {
			delete(l.out, g)
		}
	}
	return states
}

// state returns what a gateway is told of a subject. It is not ok, and told later, while the home may not know yet
// that the user is connected.
func (h *Home) state(c *cluster, now time.Duration, t told) (m *homepb.Told, ok bool) {
	m = &homepb.Told{Subject: string(t.subject)}
	u, own := t.subject.OwnUser()
	if !own {
		return m, true
	}
	m.Online = len(h.directory.of(u)) > 0
	l := &h.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	if !m.Online && h.unsure(c, now, t.subject) {
		if l.held == nil {
			l.held = make(map[told]struct{})
		}
		l.held[t] = struct{}{}
		return nil, false
	}
	if !m.Online {
		m.SeenMs = int64(l.departures.seen(u))
	}
	return m, true
}

// unsure reports whether this node is not the home of a user, or became it less than hold ago.
func (h *Home) unsure(c *cluster, now time.Duration, own pim.ConversationID) bool {
	if p := c.subject(own); p == nil || !p.self {
		return true
	}
	return slices.ContainsFunc(c.earlier, func(e earlier) bool {
		name, ok := e.homes.Of(string(own))
		return now-e.until <= hold && (!ok || name != h.self)
	})
}

// waits reports whether something is to be done after some time: release, or to ask gateways again.
func (l *looks) waits(v *bus.View) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g := range l.wanted {
		if v.Node(g.name) != nil {
			return true
		}
	}
	return len(l.held) > 0
}

// release has what is held looked at again.
func (l *looks) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.held {
		if slices.Contains(l.lookers[t.subject], t.gate) {
			l.to(t.gate).told.add(t.subject)
		}
	}
	l.held = nil
}
