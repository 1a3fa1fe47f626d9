package engine

import "github.com/pim-im/pim"

// seekPage is how many entries are looked through at once.
const seekPage = 500

// fetches are the Reads that are under way.
type fetches struct {
	last   uint64
	active map[uint64]fetch
}

type fetch struct {
	c    *conversation
	take func(*conversation, []pim.Entry)
}

// fetch asks the store for entries of c, and calls take with them.
func (e *Engine) fetch(c *conversation, r Read, take func(*conversation, []pim.Entry)) {
	e.fetches.last++
	r.ID, r.Conversation = e.fetches.last, c.id
	e.fetches.active[r.ID] = fetch{c, take}
	e.out.Reads = append(e.out.Reads, r)
}

// fetched takes the answer to a Read, unless the Read was made on an earlier connection.
func (e *Engine) fetched(in FromStore) {
	if f, ok := e.fetches.active[in.ID]; ok {
		delete(e.fetches.active, in.ID)
		f.take(f.c, in.Entries)
	}
}

// seekOwn looks in the store for a new c.own (see reads), if the old one lies above the
// position, which has moved back.
func (e *Engine) seekOwn(c *conversation) {
	if c.own > c.known {
		c.own, c.ownUpTo = 0, 0
		e.seekOwnBelow(c, c.known)
	}
}

func (e *Engine) seekOwnBelow(c *conversation, to pim.Seq) {
	if to == 0 {
		return
	}
	e.fetch(c, Read{UpTo: to, Limit: seekPage}, func(c *conversation, entries []pim.Entry) {
		for i := range entries {
			e.reads(c, &entries[i])
		}
		if c.own == 0 && len(entries) == seekPage {
			e.seekOwnBelow(c, entries[0].Seq-1)
		}
	})
}
