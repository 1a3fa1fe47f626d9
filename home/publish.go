package home

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/home/homepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Publish brings what was appended to the devices of those who read it. It never waits, and uses nothing
// of pushes after it has returned.
func (h *Home) Publish(pushes []conv.Published) {
	once(&h.wrote)
	c := h.cluster.Load()
	r := takeRound(h)
	defer r.end()
	for i := range pushes {
		p := &pushes[i]
		e := parcel{entries: p}
		h.published(p)
		if c.alone {
			r.here(c, &e, p.Members, p.Partly, false)
			continue
		}
		for _, u := range p.Members {
			g := r.sort(c, u)
			g.members = append(g.members, u)
		}
		for _, reader := range p.Partly {
			g := r.sort(c, reader.User)
			g.partly = append(g.partly, reader)
		}
		for _, g := range r.groups {
			switch {
			case g.home == nil:
				h.metrics.homeless.Add(float64(len(g.members) + len(g.partly)))
				once(&h.homeless)
				h.poke()
			case g.home.self:
				r.here(c, &e, g.members, g.partly, false)
			default:
				r.add(g.home.node, bus.KindPublish, &e, g.members, g.partly, false)
			}
		}
		r.ungroup()
	}
}

// once sets b, which is mostly set already.
func once(b *atomic.Bool) {
	if !b.Load() {
		b.Store(true)
	}
}

// parcel is entries on their way, in one or both of two forms.
type parcel struct {
	entries *conv.Published // its Members and Partly are of no account; nil: only encoded is there
	encoded [][]byte        // homepb.Entries, each of entriesBytes or a little more at most; nil: only entries is there
}

// A body has at most entriesBytes of entries, or one entry more than that, and readerNames names. So it is
// below bus.MaxBody.
const (
	entriesBytes = 1 << 20
	readerNames  = 4096 // of up to 64 bytes, with two seqs
	fullBody     = bus.MaxBody - 64
)

// encode returns the encoded form.
func (e *parcel) encode() [][]byte {
	if e.encoded == nil {
		p := e.entries
		m := homepb.Entries{Conversation: string(p.Conversation), Settings: p.Settings}
		for _, id := range p.Read {
			m.Read = append(m.Read, string(id))
		}
		rest := make([]homepb.Entry, len(p.Entries))
		size := 0
		flush := func() {
			b, err := m.MarshalVT()
			if err != nil {
				panic("home: marshal: " + err.Error()) // the strings are UTF-8: cannot happen
			}
			e.encoded = append(e.encoded, b)
			m.Entries, m.Read, size = m.Entries[:0], nil, 0
		}
		for i := range p.Entries {
			x := &p.Entries[i]
			if size > 0 && size+len(x.Data) > entriesBytes {
				flush()
			}
			rest[i] = homepb.Entry{Seq: uint64(x.Seq), Sender: string(x.Sender), Device: string(x.Device), Data: x.Data}
			m.Entries = append(m.Entries, &rest[i])
			size += len(x.Data) + 200
		}
		flush()
	}
	return e.encoded
}

// decode returns the entries. Their bytes are those of the encoded form.
func (e *parcel) decode() (*conv.Published, error) {
	if e.entries != nil {
		return e.entries, nil
	}
	p := new(conv.Published)
	for _, b := range e.encoded {
		var m homepb.Entries
		if err := m.UnmarshalVTUnsafe(b); err != nil {
			return nil, err
		}
		p.Conversation, p.Settings = pim.ConversationID(strings.Clone(m.Conversation)), m.Settings
		for _, id := range m.Read {
			p.Read = append(p.Read, pim.ConversationID(strings.Clone(id)))
		}
		p.Entries = slices.Grow(p.Entries, len(m.Entries))
		for _, x := range m.Entries {
			p.Entries = append(p.Entries, conv.Encoded{Seq: pim.Seq(x.Seq), Sender: pim.UserID(x.Sender), Device: pim.DeviceID(x.Device), Data: x.Data})
		}
	}
	e.entries = p
	return p, nil
}

// round is what one call of Publish, or one message, comes to: bodies for other nodes, and what is
// pushed to the devices of this one.
type round struct {
	h      *Home
	now    time.Duration // by Home.mono
	bodies []body
	local  []conv.Published
	came   bool           // from another node
	own    []conv.Encoded // buffer of tells

	at [2][]int // by kind, and by the number of a node: 1 + the index of its body; 0: there is none

	// Of the entries that are being sorted.
	groups []*group
	home   *group   // of the last user
	homes  []*group // by the number of the node; nil: there is none
	gates  []*group
	held   []*group // are in local
	spare  []*group
	names  []string
}

// slot returns the element of s with index i, and makes s as long as it takes.
func slot[T any](s *[]T, i int) *T {
	if i >= len(*s) {
		*s = append(*s, make([]T, i+1-len(*s))...)
	}
	return &(*s)[i]
}

// group is readers of some entries who have the same home, or devices at the same gateway.
type group struct {
	home    *peer
	gate    *gate
	members []pim.UserID
	partly  []conv.Reader
}

// body is a homepb.Pushes that is being made for a node.
type body struct {
	to   node
	kind bus.Kind
	data []byte
}

// way returns the index in round.at of a body's kind.
func way(k bus.Kind) int {
	if k == bus.KindPush {
		return 1
	}
	return 0
}

var rounds = sync.Pool{New: func() any { return new(round) }}

func takeRound(h *Home) *round {
	r := rounds.Get().(*round)
	r.h, r.now = h, h.mono()
	return r
}

// end sends the bodies, and pushes to the devices of this node.
func (r *round) end() {
	for i := range r.bodies {
		r.flush(&r.bodies[i])
	}
	if len(r.local) > 0 {
		r.h.sessions.Deliver(nil, r.local)
	}
	const keepBytes = 64 << 10
	for i := range r.bodies {
		if cap(r.bodies[i].data) > keepBytes {
			r.bodies[i].data = nil
		}
		b := &r.bodies[i]
		r.at[way(b.kind)][b.to.number] = 0
		b.to = node{}
	}
	clear(r.local)
	for _, g := range r.held {
		r.spare = append(r.spare, g.emptied())
	}
	r.held = r.held[:0]
	r.h, r.local, r.bodies, r.came = nil, r.local[:0], r.bodies[:0], false
	rounds.Put(r)
}

// sort returns the group of the home of u.
func (r *round) sort(c *cluster, u pim.UserID) *group {
	p := c.homeOf(u)
	if r.home != nil && r.home.home == p {
		return r.home
	}
	number := 0
	if p != nil {
		number = p.number
	}
	at := slot(&r.homes, number)
	if *at == nil {
		*at = r.group()
		(*at).home = p
	}
	r.home = *at
	return r.home
}

// group adds an empty group.
func (r *round) group() *group {
	var g *group
	if n := len(r.spare); n > 0 {
		g, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		g = new(group)
	}
	r.groups = append(r.groups, g)
	return g
}

// ungroup forgets the groups.
func (r *round) ungroup() {
	for _, g := range r.groups {
		r.spare = append(r.spare, g.emptied())
	}
	r.groups, r.home = r.groups[:0], nil
	clear(r.homes)
}

// emptied returns g without what is in it.
func (g *group) emptied() *group {
	clear(g.members)
	clear(g.partly)
	*g = group{members: g.members[:0], partly: g.partly[:0]}
	return g
}

// here is the home's part: it has the entries pushed to the devices of those users. The slices are
// used until the round ends. passed says that another home has passed them on.
func (r *round) here(c *cluster, e *parcel, members []pim.UserID, partly []conv.Reader, passed bool) {
	first := len(r.groups)
	for _, u := range members {
		places := r.h.directory.of(u)
		r.h.stray(c, r.now, u, len(places) > 0)
		if len(places) == 0 && !passed {
			if g := r.former(c, first, u); g != nil {
				g.members = append(g.members, u)
			}
		}
		for i := range places {
			if g := r.gate(places[i].gate); len(g.members) == 0 || g.members[len(g.members)-1] != u {
				g.members = append(g.members, u)
			}
		}
	}
	for _, reader := range partly {
		places := r.h.directory.of(reader.User)
		r.h.stray(c, r.now, reader.User, len(places) > 0)
		if len(places) == 0 && !passed {
			if g := r.former(c, first, reader.User); g != nil {
				g.partly = append(g.partly, reader)
			}
		}
		for i := range places {
			if g := r.gate(places[i].gate); len(g.partly) == 0 || g.partly[len(g.partly)-1] != reader {
				g.partly = append(g.partly, reader)
			}
		}
	}
	for _, g := range r.groups[first:] {
		switch {
		case g.gate == nil:
			r.add(g.home.node, bus.KindPublish, e, g.members, g.partly, true)
		case g.gate.name == r.h.self:
			r.gates[g.gate.number] = nil
			r.push(e, g.members, g.partly)
			r.held = append(r.held, g)
			continue
		default:
			r.gates[g.gate.number] = nil
			r.add(g.gate.node, bus.KindPush, e, g.members, g.partly, false)
		}
		r.spare = append(r.spare, g.emptied())
	}
	r.groups = r.groups[:first]
}

// gate returns the group of a gateway.
func (r *round) gate(to *gate) *group {
	at := slot(&r.gates, to.number)
	if *at == nil {
		*at = r.group()
		(*at).gate = to
	}
	return *at
}

// former returns, for a user of whom this home knows no device, the group of another home that may know some; nil:
// there is none. The groups of the entries begin with first.
func (r *round) former(c *cluster, first int, u pim.UserID) *group {
	p := r.h.passTo(c, r.now, u)
	if p == nil {
		return nil
	}
	for _, g := range r.groups[first:] {
		if g.home == p {
			return g
		}
	}
	g := r.group()
	g.home = p
	return g
}

// push is the gateway's part: it has the entries pushed to the devices of this node.
func (r *round) push(e *parcel, members []pim.UserID, partly []conv.Reader) {
	p, err := e.decode()
	if err != nil {
		r.h.damaged(err)
		return
	}
	if r.came && r.h.pushed != nil {
		r.tells(p)
	}
	local := *p
	local.Members, local.Partly = members, partly
	r.local = append(r.local, local)
}

// tells tells Options.Pushed of the entries of p that devices of this node have sent.
func (r *round) tells(p *conv.Published) {
	own := r.own[:0]
	for _, e := range p.Entries {
		if r.h.links.has(e.Sender, e.Device) {
			own = append(own, e)
		}
	}
	if len(own) > 0 {
		r.h.pushed(p.Conversation, own)
	}
	clear(own)
	r.own = own[:0]
}

// add adds entries, and who reads them, to the body for a node.
func (r *round) add(to node, k bus.Kind, e *parcel, members []pim.UserID, partly []conv.Reader, passed bool) {
	at := slot(&r.at[way(k)], to.number)
	if *at == 0 {
		if n := len(r.bodies); n < cap(r.bodies) { // there may be bytes from an earlier round
			r.bodies = r.bodies[:n+1]
		} else {
			r.bodies = append(r.bodies, body{})
		}
		*at = len(r.bodies)
		b := &r.bodies[*at-1]
		b.to, b.kind, b.data = to, k, b.data[:0]
	}
	b := &r.bodies[*at-1]
	for _, entries := range e.encode() {
		m, p := members, partly
		for {
			some, few := m[:min(len(m), readerNames)], p[:min(len(p), readerNames)]
			m, p = m[len(some):], p[len(few):]
			r.append(b, entries, some, few, passed)
			if len(m) == 0 && len(p) == 0 {
				break
			}
		}
	}
}

// append appends a homepb.Push to b, and sends what is in b before if there is no room.
func (r *round) append(b *body, entries []byte, members []pim.UserID, partly []conv.Reader, passed bool) {
	var m homepb.Push
	m.Entries, m.Passed = entries, passed
	r.names = r.names[:0]
	for _, u := range members {
		r.names = append(r.names, string(u))
	}
	m.Members = r.names
	for _, p := range partly {
		m.Partly = append(m.Partly, &homepb.Reader{User: string(p.User), From: uint64(p.From), To: uint64(p.To)})
	}
	n := m.SizeVT()
	if len(b.data) > 0 && len(b.data)+n > fullBody {
		r.flush(b)
	}
	b.data = protowire.AppendVarint(protowire.AppendTag(b.data, 1, protowire.BytesType), uint64(n))
	at := len(b.data)
	b.data = slices.Grow(b.data, n)[:at+n]
	if _, err := m.MarshalToSizedBufferVT(b.data[at:]); err != nil {
		panic("home: marshal: " + err.Error()) // the buffer has its size: cannot happen
	}
	clear(r.names)
}

// flush sends what is in b.
func (r *round) flush(b *body) {
	if len(b.data) == 0 {
		return
	}
	r.h.send(b.to.name, b.kind, encoded(b.data))
	if b.kind == bus.KindPublish {
		r.h.metrics.published.Inc()
	} else {
		r.h.metrics.pushed.Inc()
	}
	b.data = b.data[:0]
}

// receivePublish takes entries as the home of their readers.
func (h *Home) receivePublish(_ string, data []byte) {
	once(&h.wrote)
	c := h.cluster.Load()
	h.receivePushes(data, func(r *round, e *parcel, members []pim.UserID, partly []conv.Reader, passed bool) {
		r.here(c, e, members, partly, passed)
	})
}

// receivePush takes entries as the gateway of devices of their readers.
func (h *Home) receivePush(_ string, data []byte) {
	h.receivePushes(data, func(r *round, e *parcel, members []pim.UserID, partly []conv.Reader, _ bool) {
		r.push(e, members, partly)
	})
}

func (h *Home) receivePushes(data []byte, take func(*round, *parcel, []pim.UserID, []conv.Reader, bool)) {
	var m homepb.Pushes
	if err := m.UnmarshalVTUnsafe(data); err != nil {
		h.damaged(err)
		return
	}
	r := takeRound(h)
	r.came = true
	defer r.end()
	for _, p := range m.Pushes {
		members := make([]pim.UserID, len(p.Members))
		for i, u := range p.Members {
			members[i] = pim.UserID(u)
		}
		var partly []conv.Reader
		for _, x := range p.Partly {
			partly = append(partly, conv.Reader{User: pim.UserID(x.User), From: pim.Seq(x.From), To: pim.Seq(x.To)})
		}
		take(r, &parcel{encoded: [][]byte{p.Entries}}, members, partly, p.Passed)
	}
}
