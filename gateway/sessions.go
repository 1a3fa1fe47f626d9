package gateway

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
)

// Sessions are the connections that have done their handshake, until they are gone, by user.
// They are the writers' Outlet (conv.Outlet): answers to sends and pushes go through them. They
// are made before the Gateway, because the writers need them and the Gateway needs the writers.
type Sessions struct {
	metrics *Metrics
	seed    maphash.Seed
	shards  []sessionShard
	looks   looks
	gateway atomic.Pointer[Gateway] // set before the first connection
	acts    atomic.Uint64           // calls of Revoked
}

// sessionShard holds the connections of some users. A user's slice is replaced, never changed,
// so a reader may walk over it without a lock.
type sessionShard struct {
	mu    sync.RWMutex
	users map[pim.UserID][]*conn
	// Connections that were replaced and are not gone yet. Pushes do not find them; the
	// janitor and the end of the gateway must.
	leaving map[*conn]struct{}
	tokens  map[*conn]uint64 // see identify
}

// NewSessions returns Sessions for one Gateway. Both count in m; if m is nil, the counts are not
// registered anywhere.
func NewSessions(m *Metrics) *Sessions {
	if m == nil {
		m = NewMetrics(nil)
	}
	s := &Sessions{metrics: m, seed: maphash.MakeSeed(), shards: make([]sessionShard, 64)}
	for i := range s.shards {
		s.shards[i].users = make(map[pim.UserID][]*conn)
		s.shards[i].leaving = make(map[*conn]struct{})
	}
	if m.registry != nil {
		m.registry.MustRegister(newQueues(s))
	}
	return s
}

// Deliver queues answers and pushes for the connections concerned, then lets
// each of them write once. See conv.Outlet.
func (s *Sessions) Deliver(answers []conv.Answer, pushes []conv.Published) {
	var touched []*conn
	var ack ackScratch
	for i := range answers {
		c := answers[i].Request.Origin.(*conn)
		if c.answer(&answers[i], &ack) {
			touched = append(touched, c)
		}
	}
	for i := range pushes {
		touched = s.push(&pushes[i], touched)
		s.published(&pushes[i])
	}
	if len(touched) > 0 {
		var d direct
		d.start(touched)
	}
	s.metrics.answered(len(answers))
}

// push queues p for every connected device whose user may read it. It returns touched
// with the connections appended whose sender the caller must start.
func (s *Sessions) push(p *conv.Published, touched []*conn) []*conn {
	var parts []pushPart // made for the first device that lacks something; often there is none
	queue := func(u pim.UserID, from, to pim.Seq) {
		for _, c := range s.of(u) {
			if parts == nil {
				if !c.lacks(p) {
					continue
				}
				parts = splitPush(p)
			}
			for i := range parts {
				if c.push(&parts[i], from, to) {
					touched = append(touched, c)
				}
			}
		}
	}
	for _, u := range p.Members {
		queue(u, 0, pim.Seq(1<<63))
	}
	for _, r := range p.Partly {
		queue(r.User, r.From, r.To)
	}
	return touched
}

func (s *Sessions) shard(u pim.UserID) *sessionShard {
	return &s.shards[maphash.String(s.seed, string(u))%uint64(len(s.shards))]
}

// of returns u's connections. The caller must not change the slice.
func (s *Sessions) of(u pim.UserID) []*conn {
	sh := s.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[u]
}

// add registers c. If the device already has a connection, the one of the two that was
// opened first is replaced, and add returns it. That can be c itself: a device may give a
// connection up during its handshake, and the handshake of its next one may end first.
// first says that the user had no connection. ok is false, and c is not registered, if the user
// has most connections already.
func (s *Sessions) add(c *conn, most int) (replaced *conn, first, ok bool) {
	sh := s.shard(c.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	conns := make([]*conn, 0, len(sh.users[c.user])+1)
	for _, o := range sh.users[c.user] {
		switch {
		case o.device != c.device:
			conns = append(conns, o)
		case o.id > c.id:
			sh.leaving[c] = struct{}{}
			return c, false, true
		default:
			sh.leaving[o] = struct{}{}
			replaced = o
		}
	}
	if len(conns) >= most {
		return nil, false, false
	}
	first = len(sh.users[c.user]) == 0
	sh.users[c.user] = append(conns, c)
	return replaced, first, true
}

// remove takes c out, whether or not it was replaced. last says that the user has no connection any
// more, and had one.
func (s *Sessions) remove(c *conn) (last bool) {
	sh := s.shard(c.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.leaving, c)
	delete(sh.tokens, c)
	conns := slices.DeleteFunc(slices.Clone(sh.users[c.user]), func(o *conn) bool { return o == c })
	if len(conns) == 0 {
		last = len(sh.users[c.user]) > 0
		delete(sh.users, c.user)
		return last
	}
	sh.users[c.user] = conns
	return false
}

// each calls f with every connection, replaced ones too. Connections that come or go
// meanwhile may be left out. It holds no lock when it calls f, and refers to the
// connections of one shard at a time.
func (s *Sessions) each(f func(*conn)) {
	var some []*conn
	for i := range s.shards {
		some = s.shards[i].appendAll(some[:0])
		for _, c := range some {
			f(c)
		}
		clear(some) // so that a connection that goes is not kept in memory
	}
}

func (sh *sessionShard) appendAll(all []*conn) []*conn {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, conns := range sh.users {
		all = append(all, conns...)
	}
	for c := range sh.leaving {
		all = append(all, c)
	}
	return all
}
