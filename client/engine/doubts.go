package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// maxStoreName bounds the identity of a store.
const maxStoreName = 64

// doubts are the conversations that are in doubt.
type doubts struct {
	fx *effects

	count   int             // conversations in doubt
	waiting []*conversation // those that wait for their turn
	active  int             // those that are being compared: maxPulls at most
	unsure  bool            // one could not be compared on this connection
	front   bool            // a front of one in doubt was told: sync again when none is
	list    bool            // a full sync is due only because the server's store may have gone back
}

// meet looks at a Welcome for signs that the server's store went back.
func (ds *doubts) meet(w *wirepb.Welcome) {
	meta, store := &ds.fx.meta, w.Store
	if len(store) > maxStoreName {
		store = ""
	}
	other := store != "" && meta.Store != "" && store != meta.Store
	if w.StorageBehind {
		ds.list = false
	}
	if other || w.AckSerial < meta.Heard {
		ds.list = ds.list || !meta.FullSync
		meta.Doubt, meta.FullSync = true, true
	}
	meta.Store, meta.Heard = cmp.Or(store, meta.Store), w.AckSerial
	ds.fx.metaDirty = true
}

// opened forgets how far the comparisons are. The caller adds each of them again.
func (ds *doubts) opened() { ds.waiting, ds.active, ds.unsure, ds.front = nil, 0, false, false }

// add queues c for a comparison of page seqs at a time. If one is under way, it begins
// anew: what it has learned may be of a store that is gone.
func (ds *doubts) add(c *conversation, page pim.Seq) {
	if c.doubt == nil {
		ds.count++
	}
	c.doubt = newCheck(c.isOwn(), c.known, page)
	ds.waiting = append(ds.waiting, c)
}

// next returns the conversation whose turn it is to be compared, nil if there is none. The
// own log is the last.
func (ds *doubts) next() *conversation {
	if ds.active >= maxPulls {
		return nil
	}
	i := slices.IndexFunc(ds.waiting, func(c *conversation) bool { return !c.isOwn() || ds.count == 1 })
	if i < 0 {
		return nil
	}
	c := ds.waiting[i]
	ds.waiting = slices.Delete(ds.waiting, i, i+1)
	ds.active++
	c.doubt.active = true
	return c
}

// trust drops c's doubt, whatever came of it.
func (ds *doubts) trust(c *conversation) {
	if c.doubt == nil {
		return
	}
	if c.doubt.active {
		ds.active--
	}
	c.doubt = nil
	ds.count--
	ds.waiting = slices.DeleteFunc(ds.waiting, func(other *conversation) bool { return other == c })
}

// settled reports whether no conversation is in doubt any more, and all could be compared.
func (ds *doubts) settled() bool { return ds.count == 0 && !ds.unsure }
