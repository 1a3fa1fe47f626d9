package engine

import "github.com/pim-im/pim"

// seekPage is how many entries are looked through at once.
const seekPage = 500

// fetches are the Reads that are under way.
type fetches struct {
	fx     *effects
	last   uint64
	active map[uint64]fetch
}

type fetch struct {
	c    *conversation
	take func(*conversation, []pim.Entry)
}

// ask asks the store for entries of c, and calls take with them.
func (f *fetches) ask(c *conversation, r Read, take func(*conversation, []pim.Entry)) {
	f.last++
	r.ID, r.Conversation = f.last, c.id
	f.active[r.ID] = fetch{c, take}
	f.fx.out.Reads = append(f.fx.out.Reads, r)
}

// answered takes the answer to a Read, unless it was forgotten.
func (f *fetches) answered(in FromStore) {
	if a, ok := f.active[in.ID]; ok {
		delete(f.active, in.ID)
		a.take(a.c, in.Entries)
	}
}

// forget forgets the Reads that were made on an earlier connection.
func (f *fetches) forget() { clear(f.active) }

// seekOwn looks in the store for a new c.own and c.said (see effects.reads), if the old ones may be
// of entries above the position, which has moved back. above says that c.said may be.
func (f *fetches) seekOwn(c *conversation, above bool) {
	above = above && c.said != pim.Mentioned{}
	if c.own <= c.known && !above {
		return
	}
	if c.own > c.known {
		c.own, c.ownUpTo, c.ownAll = 0, 0, 0
	}
	if above {
		c.said = pim.Mentioned{}
	}
	f.seekOwnBelow(c, c.known)
}

func (f *fetches) seekOwnBelow(c *conversation, to pim.Seq) {
	if to == 0 {
		return
	}
	f.ask(c, Read{UpTo: to, Limit: seekPage}, func(c *conversation, entries []pim.Entry) {
		for i := range entries {
			f.fx.reads(c, &entries[i])
			f.fx.mentions(c, &entries[i])
		}
		if len(entries) == seekPage && entries[0].Seq > c.own+1 { // what is named up to c.own counts no more
			f.seekOwnBelow(c, entries[0].Seq-1)
		}
	})
}
