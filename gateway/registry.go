package gateway

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/pim-im/pim"
)

// registry holds every connection from the end of its handshake until it is gone, by
// user. A user's slice is replaced, never changed, so a reader may walk over it without
// a lock.
type registry struct {
	seed   maphash.Seed
	shards []registryShard
}

type registryShard struct {
	mu    sync.RWMutex
	users map[pim.UserID][]*conn
	// Connections that were replaced and are not gone yet. Pushes do not find them; the
	// janitor and the end of the gateway must.
	leaving map[*conn]struct{}
}

func newRegistry() registry {
	r := registry{seed: maphash.MakeSeed(), shards: make([]registryShard, 64)}
	for i := range r.shards {
		r.shards[i].users = make(map[pim.UserID][]*conn)
		r.shards[i].leaving = make(map[*conn]struct{})
	}
	return r
}

func (r *registry) shard(u pim.UserID) *registryShard {
	return &r.shards[maphash.String(r.seed, string(u))%uint64(len(r.shards))]
}

// of returns u's connections. The caller must not change the slice.
func (r *registry) of(u pim.UserID) []*conn {
	s := r.shard(u)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.users[u]
}

// add registers c. If the device already has a connection, the one of the two that was
// opened first is replaced, and add returns it. That can be c itself: a device may give a
// connection up during its handshake, and the handshake of its next one may end first.
// Above limit connections of the user the error is of KindOverloaded.
func (r *registry) add(c *conn, limit int) (replaced *conn, err error) {
	s := r.shard(c.user)
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.users[c.user])+1)
	for _, o := range s.users[c.user] {
		switch {
		case o.device != c.device:
			conns = append(conns, o)
		case o.id > c.id:
			s.leaving[c] = struct{}{}
			return c, nil
		default:
			s.leaving[o] = struct{}{}
			replaced = o
		}
	}
	if len(conns) >= limit {
		return nil, pim.Errorf(pim.KindOverloaded, "user %s has %d connections", c.user, limit)
	}
	s.users[c.user] = append(conns, c)
	return replaced, nil
}

// remove takes c out, whether or not it was replaced.
func (r *registry) remove(c *conn) {
	s := r.shard(c.user)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, c)
	conns := slices.DeleteFunc(slices.Clone(s.users[c.user]), func(o *conn) bool { return o == c })
	if len(conns) == 0 {
		delete(s.users, c.user)
		return
	}
	s.users[c.user] = conns
}

// each calls f with every connection, replaced ones too. Connections that come or go
// meanwhile may be left out. It holds no lock when it calls f, and refers to the
// connections of one shard at a time.
func (r *registry) each(f func(*conn)) {
	var some []*conn
	for i := range r.shards {
		some = r.shards[i].appendAll(some[:0])
		for _, c := range some {
			f(c)
		}
		clear(some) // so that a connection that goes is not kept in memory
	}
}

func (s *registryShard) appendAll(all []*conn) []*conn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, conns := range s.users {
		all = append(all, conns...)
	}
	for c := range s.leaving {
		all = append(all, c)
	}
	return all
}
