package home

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home/homepb"
)

// What devices have on their screens (looks, decision 44). A subject, a conversation or a user, has a home as users have.
// Gateways tell it at what they look, whoever knows that a subject may have changed tells it that, and it tells
// those who look. What a gateway is told makes it read anew what it tells its devices; only whether a user is connected
// does it take from the home, which knows by its directory.
//
// As with devices, a loss is never silent:
//
//   - What a gateway looks at is told to a home in order. After a gap the home forgets what it was told, and asks the
//     gateway to say it again, until it does.
//   - Each look is answered, so that what changed before the home knew of it is told.
//   - After a gap in what a home tells, the gateway tells that home again at what it looks.
//   - After a gap in what a home is told, all who look at something there may have missed a change, and are told so. The
//     same is said to all homes by a node in whose view the homes have changed, if it has ever hinted at
//     anything: it may have told a node that was nobody's home any more, or not yet.
//
// Typing is told once, or not at all.

const (
	// hintEvery is the time between two rounds of hints, at least; hintMany is how many subjects of one sort a
	// round has at most. So a message is below bus.MaxBody even if all names have their full length. What
	// comes meanwhile more than once is told once.
	hintEvery = 20 * time.Millisecond
	hintMany  = 2048

	maxChanged = 1 << 16 // subjects that wait to be told to homes; above it the homes are told that any may have changed
	maxTyping  = 2048    // PIMTypings that wait for a round, to all homes or to a gateway; more are dropped
	userTyping = 16      // of one user
	maxLooks   = 1 << 20 // looks of gateways that a home knows, some 150 bytes each

	// hold is for how long after it has become a user's home a node says of nobody that he is not connected: the
	// gateways see the view that says so up to a second apart, and announce their devices then.
	hold = 2 * time.Second

	maxDepartures = 1 << 16 // users who have gone, remembered within grace
)

// looks are a Home's parts in what is on screens.
type looks struct {
	wake  chan struct{} // capacity 1: there is something for a round
	known atomic.Int64  // len(lookers), to be asked without a lock

	mu sync.Mutex // guards the fields below; a shard of the directory or of the gateway's looks may be locked before it

	// The gateway's part.
	mine   map[pim.ConversationID]look
	untold subjects        // of mine, whose homes are to be told
	asked  map[string]bool // homes that want to be told all again

	// The part of who knows of changes.
	cluster *cluster // of the last round
	changed subjects
	any     bool // the homes are to be told that any subject may have changed
	hinted  bool // at something, ever
	typing  typists

	// The home's part.
	lookers map[pim.ConversationID][]*gate
	looking map[*gate]int // how often a gate is in lookers
	count   int           // of all looks in lookers
	out     map[*gate]*outgoing
	held    map[told]struct{}       // are told when the home is sure
	wanted  map[*gate]time.Duration // gateways that must say again at what they look, and when they are to be asked

	departures departures
}

// look is what a gateway keeps of a subject.
type look struct {
	home  *peer // that was told of the look; nil: none
	looks bool  // else the home is to be told that nobody looks any more
}

// told is a subject that a gateway is to be told of.
type told struct {
	gate    *gate
	subject pim.ConversationID
}

// outgoing is what a gateway is to be told.
type outgoing struct {
	told   subjects
	any    bool // all that the gateway looks at may have changed
	typing typists
}

// make makes the maps.
func (l *looks) make(c *cluster) {
	l.cluster = c
	l.wake = make(chan struct{}, 1)
	l.mine, l.lookers = make(map[pim.ConversationID]look), make(map[pim.ConversationID][]*gate)
	l.looking, l.out = make(map[*gate]int), make(map[*gate]*outgoing)
	l.asked, l.wanted = make(map[string]bool), make(map[*gate]time.Duration)
}

// poke has a round begin.
func (l *looks) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// subject returns the home of a subject in the newest view; nil: no node is one.
func (c *cluster) subject(id pim.ConversationID) *peer {
	name, ok := c.homes.Of(string(id))
	if !ok {
		return nil
	}
	return c.peers[name]
}

// Look implements gateway.Homes.
func (h *Home) Look(id pim.ConversationID, does bool) {
	l := &h.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.mine[id]
	m.looks = does
	l.mine[id] = m
	l.untold.add(id)
	l.poke()
}

// Changed implements gateway.Homes.
func (h *Home) Changed(id pim.ConversationID) {
	l := &h.looks
	p := h.cluster.Load().subject(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	if p != nil && p.self && len(l.lookers[id]) == 0 {
		l.hinted = true // as to this home, which has nobody to tell
		return
	}
	if len(l.changed.list) >= maxChanged {
		l.any = true
	} else {
		l.changed.add(id)
	}
	l.poke()
}

// published hints at what p, which was appended here, may have changed for those who look.
func (h *Home) published(p *conv.Published) {
	if p.Settings {
		h.Changed(p.Conversation)
	}
	for _, id := range p.Read {
		h.Changed(id)
	}
}

// Types implements gateway.Homes.
func (h *Home) Types(user pim.UserID, id pim.ConversationID) {
	l := &h.looks
	l.mu.Lock()
	taken := l.typing.add(typist{user, id})
	l.mu.Unlock()
	if l.poke(); !taken {
		h.sessions.DropTyping(1)
	}
}

// hints does rounds of hints until the Home closes.
func (h *Home) hints() {
	for {
		var retry <-chan time.Time
		if h.looks.waits(h.bus.View()) {
			retry = time.After(again / 4)
		}
		select {
		case <-h.looks.wake:
		case <-retry:
			h.looks.release()
		case <-h.ctx.Done():
			return
		}
		for range 3 { // from here to here as the home, and from the home to here
			if !h.hintRound() {
				break
			}
		}
		select {
		case <-time.After(hintEvery):
		case <-h.ctx.Done():
			return
		}
	}
}

// hintRound sends each node what it is to be told. It reports whether this node was among them.
func (h *Home) hintRound() (here bool) {
	c, now := h.cluster.Load(), h.mono()
	bodies := make(map[string]*homepb.Hints)
	body := func(name string) *homepb.Hints {
		if bodies[name] == nil {
			bodies[name] = new(homepb.Hints)
		}
		return bodies[name]
	}
	view := h.bus.View()
	l := &h.looks
	l.mu.Lock()
	l.tellHomes(c, body)
	for g, at := range l.wanted {
		if now >= at && view.Node(g.name) != nil {
			l.wanted[g] = now + again
			body(g.name).Wanted = true
		}
	}
	states := l.tellGateways(body)
	if len(l.untold.list)+len(l.changed.list)+len(l.out) > 0 {
		l.poke()
	}
	l.mu.Unlock()
	for _, t := range states { // without the lock, which may be taken while a shard of the directory is locked
		if m, ok := h.state(c, now, t); ok {
			b := body(t.gate.name)
			b.Told = append(b.Told, m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		if name == h.self {
			here = true
			h.takeHints(name, bodies[name])
			continue
		}
		h.metrics.hints.Inc()
		h.send(name, bus.KindHint, bodies[name])
	}
	return here
}

// tellHomes adds to bodies what homes are to be told. The caller holds l.mu.
func (l *looks) tellHomes(c *cluster, body func(string) *homepb.Hints) {
	if c != l.cluster {
		l.move(c)
	}
	for name := range l.asked {
		body(name).Again = true
	}
	clear(l.asked)
	for _, id := range l.untold.take() {
		m := l.mine[id]
		var p *peer
		if m.looks {
			p = c.subject(id)
		}
		if m.home != nil && m.home != p && c.peers[m.home.name] == m.home {
			b := body(m.home.name)
			b.Ends = append(b.Ends, string(id))
		}
		if p != nil {
			b := body(p.name)
			b.Looks = append(b.Looks, string(id))
		}
		if m.looks {
			l.mine[id] = look{home: p, looks: true}
		} else {
			delete(l.mine, id)
		}
	}
	for _, id := range l.changed.take() {
		l.hinted = true
		if p := c.subject(id); p != nil {
			b := body(p.name)
			b.Changed = append(b.Changed, string(id))
		}
	}
	for _, t := range l.typing.take() {
		if p := c.subject(t.conversation); p != nil {
			b := body(p.name)
			b.Typing = append(b.Typing, &homepb.Typing{Conversation: string(t.conversation), User: string(t.user)})
		}
	}
	if l.any {
		l.any = false
		for name := range c.peers {
			body(name).Any = true
		}
	}
}

// move has the homes told that c names and that do not know of looks. The caller holds l.mu.
func (l *looks) move(c *cluster) {
	if old := l.cluster; l.hinted && (old.homes != c.homes || !maps.Equal(old.peers, c.peers)) {
		l.any = true
	}
	l.cluster = c
	for id, m := range l.mine {
		if m.looks && c.subject(id) != m.home {
			l.untold.add(id)
		}
	}
}

// receiveHint takes what another node tells of looks.
func (h *Home) receiveHint(from string, data []byte) {
	m := new(homepb.Hints)
	if err := m.UnmarshalVT(data); err != nil {
		h.damaged(err)
		return
	}
	h.takeHints(from, m)
}

// takeHints takes m as the home, and as a gateway.
func (h *Home) takeHints(from string, m *homepb.Hints) {
	g := h.gate(from)
	l := &h.looks
	l.mu.Lock()
	dropped, refused := l.asHome(g, m)
	if m.Wanted {
		l.asked[from] = true
		l.lookAgain(from)
	}
	hints := l.asGateway(from, m)
	l.mu.Unlock()
	if len(m.Looks)+len(m.Changed)+len(m.Typing) > 0 || m.Any || m.Wanted {
		l.poke()
	}
	if refused > 0 {
		h.metrics.looksRefused.Add(float64(refused))
	}
	if dropped > 0 {
		h.sessions.DropTyping(dropped)
	}
	for _, x := range hints {
		h.sessions.Hint(x)
	}
}

// asGateway returns what m says to the gateway. The caller holds l.mu.
func (l *looks) asGateway(from string, m *homepb.Hints) (hints []gateway.Hint) {
	for _, t := range m.Told {
		id := pim.ConversationID(t.Subject)
		x := gateway.Hint{Subject: id}
		if _, own := id.OwnUser(); own {
			if p := l.mine[id].home; p == nil || p.name != from {
				continue // the user's home at present is another one, and knows better
			}
			x.State, x.Online, x.Seen = true, t.Online, pim.Millis(t.SeenMs)
		}
		hints = append(hints, x)
	}
	if m.ToldAny {
		for id, k := range l.mine {
			if k.home != nil && k.home.name == from {
				hints = append(hints, gateway.Hint{Subject: id})
			}
		}
	}
	for _, t := range m.ToldTyping {
		hints = append(hints, gateway.Hint{Subject: pim.ConversationID(t.Conversation), Typing: pim.UserID(t.User)})
	}
	return hints
}

// hintsLost is told that messages from a node may be lost, in which it said at what it looks, what may have changed, or
// what this gateway is to be told.
func (h *Home) hintsLost(from string) {
	g := h.gate(from)
	l := &h.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looking[g] > 0 {
		for id, gates := range l.lookers {
			if slices.Contains(gates, g) {
				l.leave(g, id)
			}
		}
	}
	delete(l.out, g)
	l.wanted[g] = 0
	l.tellAny()
	l.lookAgain(from)
	l.poke()
}

// lookAgain has a home told again at what this gateway looks there. The caller holds l.mu.
func (l *looks) lookAgain(name string) {
	for id, m := range l.mine {
		if m.home != nil && m.home.name == name {
			l.untold.add(id)
		}
	}
}
