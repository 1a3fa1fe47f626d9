package home

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/gateway"
)

// links are the connections of this node, and which home each was told to. It is safe for concurrent
// use.
type links struct {
	seed   maphash.Seed
	shards [64]linkShard
}

type linkShard struct {
	mu    sync.Mutex
	users map[pim.UserID][]*link
}

// link is a connection of this node.
type link struct {
	user   pim.UserID
	device pim.DeviceID
	conn   uint64
	opened time.Duration // by Home.mono

	// Guarded by the shard's mu.
	home     *peer    // nil: no node is a home
	told     []string // homes that may know the device, the one that was told last at the end; maxTold at most
	known    bool     // home knows the device
	missed   bool     // pushes may be lost: the device is told to sync when home knows it
	warned   bool     // it was told to sync since home knew it last
	marking  bool     // it is among those that are told to sync
	joined   bool     // Join has returned: before, its device has not synced, and can have missed nothing
	replaced bool     // by a connection to another node
	gone     bool
	seen     pim.Millis // set when it is gone, see gateway.Connection
}

// peer is a node, in one run, as the home of users.
type peer struct {
	node
	run  uint64
	self bool
	met  time.Duration // by Home.mono: since when it is in the view

	parted atomic.Bool // it has said everything, see Home.Close

	// Guarded by Home.mu.
	gone     bool    // it is not in the view any more
	waiting  []*link // are to be announced
	whole    bool    // all links of the peer are to be announced
	announce bool    // a goroutine announces
}

func newLinks() *links {
	l := &links{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].users = make(map[pim.UserID][]*link)
	}
	return l
}

func (l *links) shard(u pim.UserID) *linkShard {
	return &l.shards[maphash.String(l.seed, string(u))%uint64(len(l.shards))]
}

// locked calls f while k's fields may be read and changed.
func (l *links) locked(k *link, f func()) {
	sh := l.shard(k.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f()
}

// add makes a link. home is called while the link's shard is locked.
func (l *links) add(c gateway.Connection, opened time.Duration, home func(pim.UserID) *peer) *link {
	k := &link{user: c.User, device: c.Device, conn: c.ID, opened: opened}
	sh := l.shard(c.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k.home = home(c.User)
	sh.users[c.User] = append(sh.users[c.User], k)
	return k
}

// remove takes the link of c out. It returns nil if there is none, and otherwise the link and the homes that were
// told of it.
func (l *links) remove(c gateway.Connection) (*link, []string) {
	u, conn := c.User, c.ID
	sh := l.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.users[u]
	at := slices.IndexFunc(list, func(k *link) bool { return k.conn == conn })
	if at < 0 {
		return nil, nil
	}
	k := list[at]
	k.gone, k.seen = true, c.Seen
	if list = slices.Delete(list, at, at+1); len(list) == 0 {
		delete(sh.users, u)
	} else {
		sh.users[u] = list
	}
	return k, slices.Clone(k.told) // whoever has found k before may still add to it
}

// maxTold is how many homes are told that a connection has gone. Earlier ones have long forgotten it.
const maxTold = 16

// tells notes that a home is told of k. The caller holds the shard's mu.
func (k *link) tells(home string) {
	if at := slices.Index(k.told, home); at >= 0 {
		k.told = slices.Delete(k.told, at, at+1)
	} else if len(k.told) == maxTold {
		k.told = slices.Delete(k.told, 0, 1)
	}
	k.told = append(k.told, home)
}

// of calls f with the link of a connection, if there is one. Its fields may be read and changed
// meanwhile.
func (l *links) of(u pim.UserID, conn uint64, f func(*link)) {
	sh := l.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, k := range sh.users[u] {
		if k.conn == conn {
			f(k)
		}
	}
}

// has reports whether a device has a connection here.
func (l *links) has(u pim.UserID, d pim.DeviceID) bool {
	sh := l.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.ContainsFunc(sh.users[u], func(k *link) bool { return k.device == d })
}

// each calls f with every link, whose fields may be read and changed meanwhile.
func (l *links) each(f func(*link)) {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, list := range sh.users {
			for _, k := range list {
				f(k)
			}
		}
		sh.mu.Unlock()
	}
}
