package home

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
)

// directory is what a home knows: to which nodes the devices of its users are connected. It is safe
// for concurrent use.
type directory struct {
	seed   maphash.Seed
	shards [256]directoryShard
	count  atomic.Int64 // of places
	limit  int64        // of count

	comesOrGoes func(pim.UserID) // is called when a user has got a first place or lost the last one; a shard is locked
}

// directoryShard has some of the users. A slice is replaced, never changed.
type directoryShard struct {
	mu    sync.RWMutex
	users map[pim.UserID][]place
}

// place is where a device is connected.
type place struct {
	device pim.DeviceID
	gate   *gate
	conn   uint64 // the gateway's number of the connection
	opened int64  // when the connection was opened, by this home's clock: ms
	told   uint32 // gate.told when the gateway named the connection last
}

// gate is a node as the gateway of devices.
type gate struct {
	node
	told   atomic.Uint32 // how often the node has begun to name all its devices
	places atomic.Int64
}

// newer reports whether p's connection was opened after o's, both of one device. Within a gateway its
// numbers say so. Between gateways the home's clock does, as precisely as messages are fast. Neither may be newer.
func (p *place) newer(o *place) bool {
	if p.gate == o.gate {
		return p.conn > o.conn
	}
	return p.opened > o.opened
}

// entered is what has become of a place that a gateway named.
type entered struct {
	refused  refusal
	others   int    // the user's other devices, if refused for tooMany
	known    bool   // it was there before
	replaced *place // an older connection of the device on another node
}

type refusal int

const (
	accepted refusal = iota
	tooMany          // the user has limit devices already
	older            // the device has a newer connection
	full             // the directory has no room
)

func newDirectory(limit int, comesOrGoes func(pim.UserID)) *directory {
	d := &directory{seed: maphash.MakeSeed(), limit: int64(limit), comesOrGoes: comesOrGoes}
	for i := range d.shards {
		d.shards[i].users = make(map[pim.UserID][]place)
	}
	return d
}

func (d *directory) shard(u pim.UserID) *directoryShard {
	return &d.shards[maphash.String(d.seed, string(u))%uint64(len(d.shards))]
}

// of returns where u's devices are. The caller must not change the slice.
func (d *directory) of(u pim.UserID) []place {
	sh := d.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[u]
}

// enter notes that a device of u is at p. limit is how many devices of u may be there; 0: any number.
func (d *directory) enter(u pim.UserID, p place, limit int) (e entered) {
	sh := d.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.users[u]
	at := slices.IndexFunc(old, func(o place) bool { return o.device == p.device })
	if at < 0 {
		switch {
		case limit > 0 && len(old) >= limit:
			return entered{refused: tooMany, others: len(old)}
		case d.count.Load() >= d.limit:
			return entered{refused: full}
		}
		sh.users[u] = append(slices.Clone(old), p)
		d.count.Add(1)
		p.gate.places.Add(1)
		if len(old) == 0 {
			d.comesOrGoes(u)
		}
		return entered{}
	}
	o := old[at]
	switch {
	case o.gate == p.gate && o.conn == p.conn:
		e.known, p.opened = true, o.opened
	case o.newer(&p):
		return entered{refused: older}
	case o.gate != p.gate:
		e.replaced = &o
	}
	o.gate.places.Add(-1)
	p.gate.places.Add(1)
	users := slices.Clone(old)
	users[at] = p
	sh.users[u] = users
	return e
}

// remove notes that a connection is gone.
func (d *directory) remove(u pim.UserID, device pim.DeviceID, from *gate, conn uint64) {
	sh := d.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	d.keep(sh, u, func(p *place) bool { return p.device != device || p.gate != from || p.conn != conn })
}

// retain removes the places of which keep is not true.
func (d *directory) retain(keep func(pim.UserID, *place) bool) {
	for i := range d.shards {
		sh := &d.shards[i]
		sh.mu.Lock()
		for u := range sh.users {
			d.keep(sh, u, func(p *place) bool { return keep(u, p) })
		}
		sh.mu.Unlock()
	}
}

// keep removes the places of u of which is is not true. The caller holds sh.mu.
func (d *directory) keep(sh *directoryShard, u pim.UserID, is func(*place) bool) {
	old := sh.users[u]
	lost := 0
	for i := range old {
		if !is(&old[i]) {
			lost++
			old[i].gate.places.Add(-1)
		}
	}
	if lost == 0 {
		return
	}
	d.count.Add(int64(-lost))
	if lost == len(old) {
		delete(sh.users, u)
		d.comesOrGoes(u)
		return
	}
	rest := make([]place, 0, len(old)-lost)
	for i := range old {
		if is(&old[i]) {
			rest = append(rest, old[i])
		}
	}
	sh.users[u] = rest
}
