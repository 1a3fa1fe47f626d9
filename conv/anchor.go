package conv

import (
	"context"
	"sort"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// An entry's times and its anchor say where the entry is displayed, see order.go in package
// pim. date gives them to an entry from the conversation's state.
//
// The anchor of a late resend may be an entry that the state has forgotten: the entry is old,
// or its sender wrote very many since, or it was written before the conversation was loaded.
// Then a look-up finds the anchor in the log.

const (
	// anchorBytes bounds one sender's anchors in memory, in bytes: about 170 messages. If a
	// sender wrote no more than that in three minutes (pim.OrderWindow), nothing is forgotten.
	anchorBytes = 512
	// anchorReach is how many entries of the log a look-up reads for one anchor, at most. If
	// the sender's clock is right, the entries of one second are enough. If it is minutes
	// behind, in a conversation of more than 45 messages a second, the look-up may need more. Then
	// it misses the anchor, and the message is displayed before a later message of its sender
	// than it could be.
	anchorReach = 8192
	// anchorReachBytes bounds the same look-up in bytes of the log. A look-up reads so many
	// bytes, too, only if the sender's clock is far behind.
	anchorReachBytes = 16 << 20
)

// floor bounds the entries of the senders who have no Anchors in conversation.order. If such an
// entry may still be an anchor, its seq is at most seq, and its L' at most local. If seq is 0,
// there are no such entries.
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

// unknown returns the Anchors of a sender who has none in c.order.
func (c *conversation) unknown() *pim.Anchors {
	a := new(pim.Anchors)
	if c.floor.seq != 0 {
		*a = pim.Forgotten(c.floor.seq, c.floor.local)
	}
	return a
}

// date gives e, which is made at now, its times and its anchor. anchor is the anchor that was
// looked up, or 0.
func (c *conversation) date(e *pim.Entry, r *Request, anchor pim.Seq, now pim.Millis) {
	e.Server, e.Ahead = c.times.Stamp(r.moment(now))
	a := c.anchors(e.Sender)
	l := c.times.Order(r.sending(), a.Latest())
	if l != e.OrderTime() {
		e.Order = l
	}
	if e.Anchor = anchor; anchor == 0 {
		e.Anchor = a.Next(e.Seq, l, e.Server)
	}
	if a.Size() > anchorBytes {
		c.many = append(c.many, a)
	}
}

// lateness is what findAnchor needs to know about a request.
type lateness struct {
	sender pim.UserID
	local  pim.Millis // L'
	upTo   pim.Seq    // the anchor has this seq at most
}

// late reports whether r, if it is appended at now, may have a forgotten entry as its
// anchor.
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
	times := c.times // a copy: date will stamp c.times itself
	times.Stamp(r.moment(now))
	l := times.Order(r.sending(), a.Latest())
	upTo, lost := a.Seek(l)
	return lateness{r.Sender, l, upTo}, lost
}

// lookUpAnchor returns the anchor of r from the log, if r is late. It returns 0 if r is not
// late, if step will refuse r, or if findAnchor finds nothing.
func (l *live) lookUpAnchor(ctx context.Context, s store.Store, r *Request, now pim.Millis) (pim.Seq, error) {
	at, late := l.late(r, now)
	if !late {
		return 0, nil
	}
	if _, err := l.allow(r); err != nil {
		return 0, nil // step will refuse r with this error
	}
	return findAnchor(ctx, s, l.id, at)
}

// findAnchor returns the seq of the sender's first entry, up to at.upTo, whose L' is greater
// than at.local; 0 if it finds none. An L' is at most OrderSlack above the entry's server time,
// so findAnchor begins at the first entry whose server time is late enough. It finds that
// entry by binary search, because server times do not decrease.
func findAnchor(ctx context.Context, s store.Store, id pim.ConversationID, at lateness) (pim.Seq, error) {
	var failed error
	server := func(seq pim.Seq) pim.Millis {
		e, _, err := readEntries(ctx, s, id, seq, seq)
		if err == errTrimmed {
			return 0 // long ago
		}
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
	var entries []pim.Entry
	left := anchorReachBytes
	for end := min(at.upTo, from+anchorReach); failed == nil && from <= end && left > 0; {
		size, to := 0, min(from+page-1, end)
		entries, size, failed = readPage(ctx, s, id, from, to, entries[:0])
		if failed == errTrimmed { // since server has seen it
			failed, from = nil, to+1
			continue
		}
		if failed != nil {
			break
		}
		left -= size
		from = entries[len(entries)-1].Seq + 1
		for i := range entries {
			if e := &entries[i]; e.Sender == at.sender && e.OrderTime() > at.local {
				return e.Seq, nil
			}
		}
	}
	return 0, failed
}
