package conv

import (
	"context"
	"sort"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The anchor of a late resend may be an entry that nobody remembers: long ago, among
// very many, or from before the conversation was loaded. Then it is read from the log.

const (
	// anchorBytes is what one sender's anchors take in memory: about 170 messages.
	// A sender who wrote no more in three minutes is remembered whole.
	anchorBytes = 512
	// anchorReach is how many entries of the log are read for one anchor. Where the
	// sender's clock is right they are those of a second; a clock that is minutes
	// behind, in a conversation of very many messages, may need more. Then the message
	// is displayed before a later message of its sender than it could be.
	anchorReach = 8192
)

// floor is what is known of entries that no sender's Anchors remember: they lie up to
// seq, and their L' up to local.
type floor struct {
	seq   pim.Seq
	local pim.Millis
}

// anchors returns the Anchors of u.
func (c *conversation) anchors(u pim.UserID) *pim.Anchors {
	a := c.order[u]
	if a == nil {
		if c.order == nil {
			c.order = make(map[pim.UserID]*pim.Anchors)
		}
		a = c.unknown()
		c.order[u] = a
	}
	return a
}

// unknown returns the Anchors of a sender of whom nothing is remembered.
func (c *conversation) unknown() *pim.Anchors {
	a := new(pim.Anchors)
	if c.floor.seq != 0 {
		*a = pim.Forgotten(c.floor.seq, c.floor.local)
	}
	return a
}

// lateness is of a request what it takes to look its anchor up.
type lateness struct {
	sender pim.UserID
	local  pim.Millis // L'
	upTo   pim.Seq    // the anchor is looked for up to here
}

// late reports whether the anchor of r, if it is appended at now, may be one that is
// forgotten.
func (c *conversation) late(r *Request, now pim.Millis) (lateness, bool) {
	a := c.order[r.Sender]
	if a == nil {
		if c.floor.seq == 0 {
			return lateness{}, false
		}
		a = c.unknown()
	}
	if _, lost := a.Seek(-1 << 62); !lost {
		return lateness{}, false
	}
	times := c.times // as date will find them
	times.Stamp(r.moment(now))
	l := times.Order(r.sending(), a.Latest())
	upTo, lost := a.Seek(l)
	return lateness{r.Sender, l, upTo}, lost
}

// lookUpAnchor returns the anchor of r, if it is late and its anchor is not remembered;
// else 0.
func (l *live) lookUpAnchor(ctx context.Context, s store.Store, r *Request, now pim.Millis) (pim.Seq, error) {
	at, late := l.late(r, now)
	if !late {
		return 0, nil
	}
	if _, err := l.allow(r); err != nil {
		return 0, nil // step refuses it: nothing is read for it
	}
	return findAnchor(ctx, s, l.id, at)
}

// findAnchor reads the log for the first entry, up to upTo, of the sender whose L' is
// above local; 0 if there is none. It begins at the first entry whose server time
// allows that. Server times do not decrease, so that one is searched for.
func findAnchor(ctx context.Context, s store.Store, id pim.ConversationID, at lateness) (pim.Seq, error) {
	var failed error
	server := func(seq pim.Seq) pim.Millis {
		e, err := readEntries(ctx, s, id, seq, seq)
		if err != nil {
			failed = err
			return 0
		}
		return e[0].Server
	}
	back := min(at.upTo-1, 1<<20)
	first := at.upTo - back
	from := first + pim.Seq(sort.Search(int(back), func(i int) bool {
		return failed != nil || server(first+pim.Seq(i)) > at.local-pim.OrderSlack
	}))
	const page = 256
	for end := min(at.upTo, from+anchorReach); failed == nil && from <= end; from += page {
		var entries []pim.Entry
		entries, failed = readEntries(ctx, s, id, from, min(from+page-1, end))
		for i := range entries {
			if e := &entries[i]; e.Sender == at.sender && e.OrderTime() > at.local {
				return e.Seq, nil
			}
		}
	}
	return 0, failed
}
