package engine

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// An erase takes the payloads of what its sender wrote up to a seq. The store erases what it has,
// and remembers the seq. The engine erases what comes later and is from before: an entry that
// waited for a gap to close, or an answer that the server made before it erased.
//
// A device that leaves a gap to scrolling may never read the erases in it. It asks for what has
// changed below the gap (conversation.stale), and the answer tells the erasures, too.

// erase takes an erasure that the device hears of in c.
func (e *Engine) erase(c *conversation, x pim.Erasure) {
	if x.UpTo <= c.erased[x.By] {
		return
	}
	e.erasedUpTo(c, x)
	if c.last != nil && x.Erases(c.last) {
		last := *c.last
		last.Payload, last.Erased = nil, true
		c.last, c.lastCut = &last, false
		e.touch(c)
	}
	e.emit(ErasedEvent{Conversation: c.id, Erasure: x})
}

// erasedUpTo stores how far the messages of a user in c are erased.
func (e *Engine) erasedUpTo(c *conversation, x pim.Erasure) {
	if c.erased == nil {
		c.erased = make(map[pim.UserID]pim.Seq)
	}
	c.erased[x.By] = x.UpTo
	e.out.Store.Erasures = append(e.out.Store.Erasures, Erasure{c.id, x})
}

// erasuresBack takes the erasures of c back to the seq to, with its entries. What has been erased
// up to there stays so. The seqs above are used again.
func (e *Engine) erasuresBack(c *conversation, to pim.Seq) {
	for _, by := range slices.Sorted(maps.Keys(c.erased)) {
		if c.erased[by] > to {
			e.erasedUpTo(c, pim.Erasure{By: by, UpTo: to})
		}
	}
}

// erasure returns how far the messages of a user in c are erased.
func (c *conversation) erasure(by pim.UserID) pim.Erasure {
	return pim.Erasure{By: by, UpTo: c.erased[by]}
}

// strip takes the payload of entry, if it is erased.
func (c *conversation) strip(entry *pim.Entry) {
	// A brief Summary shows an edit without its message, as if that had the seq 0. Of a sender who has
	// erased nothing, nothing is erased.
	if x := c.erasure(entry.Sender); x.UpTo > 0 && x.Erases(entry) {
		entry.Payload, entry.Erased = nil, true
	}
}
