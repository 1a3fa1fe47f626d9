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
	// anchorReach is how many entries of the log a look-up reads for one anchor, at most. It needs
	// more only if the sender's clock is minutes behind, and thousands of entries of others
	// lie between two of the sender's. Then it misses the anchor, and the message is displayed
	// before a later message of its sender than it could be.
	anchorReach = 8192
	// anchorReachBytes bounds the same look-up in bytes of the log.
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
// than at.local; 0 if it finds none.
//
// An L' is at most OrderSlack above the entry's server time, so the entry is not before the first
// one whose server time is late enough. Binary search finds that one, because server times do not
// decrease. If the sender's clock is right, the entry is close behind. If not, a second binary search
// narrows down where it is: the sender's peaks, which are their own anchors, have growing L'.
func findAnchor(ctx context.Context, s store.Store, id pim.ConversationID, at lateness) (pim.Seq, error) {
	l := &anchorSearch{ctx: ctx, store: s, id: id, at: at, entries: anchorReach, bytes: anchorReachBytes}
	back := min(at.upTo-1, 1<<20)
	first := at.upTo - back
	from := first + pim.Seq(sort.Search(int(back), func(i int) bool {
		return l.err != nil || l.server(first+pim.Seq(i)) > at.local-pim.OrderSlack
	}))
	to := min(from+anchorPage-1, at.upTo)
	if found := l.first(from, to, l.above); found.Seq != 0 || l.err != nil {
		return found.Seq, l.err
	}
	// No entry of the sender before from is above, and anchor, if it is not 0, is the first one after to.
	var anchor pim.Seq
	for from, to = to+1, at.upTo; to >= from+anchorPage && l.goesOn(); {
		middle := from + (to-from)/2
		switch peak := l.first(middle, to, l.peak); {
		case peak.Seq != 0 && peak.OrderTime() <= at.local:
			from = peak.Seq + 1
		case peak.Seq != 0:
			anchor, to = peak.Seq, middle-1
		case l.goesOn(): // the sender has none there
			to = middle - 1
		}
	}
	if l.goesOn() {
		if found := l.first(from, to, l.above); found.Seq != 0 {
			anchor = found.Seq
		}
	}
	return anchor, l.err
}

// anchorPage is how many entries a look-up reads at a time.
const anchorPage = 256

// anchorSearch is a look-up of an anchor under way.
type anchorSearch struct {
	ctx   context.Context
	store store.Store
	id    pim.ConversationID
	at    lateness

	entries, bytes int // that it may still read
	page           []pim.Entry
	err            error
}

// goesOn reports whether the look-up may read more.
func (l *anchorSearch) goesOn() bool { return l.err == nil && l.entries > 0 && l.bytes > 0 }

// server returns the server time of an entry, 0 if it was trimmed: long ago.
func (l *anchorSearch) server(seq pim.Seq) pim.Millis {
	e, _, err := readEntries(l.ctx, l.store, l.id, seq, seq)
	switch {
	case err == errTrimmed:
		return 0
	case err != nil:
		l.err = err
		return 0
	}
	return e[0].Server
}

// above reports whether the anchor is at e or before it.
func (l *anchorSearch) above(e *pim.Entry) bool { return e.OrderTime() > l.at.local }

// peak reports whether no earlier entry of its sender has a greater L' than e.
func (l *anchorSearch) peak(e *pim.Entry) bool { return e.Anchor == 0 || e.Anchor == e.Seq }

// first returns the sender's first entry of from..to for which is reports true. Its seq is 0 if there is none, or if
// the look-up may not read so far.
func (l *anchorSearch) first(from, to pim.Seq, is func(*pim.Entry) bool) pim.Entry {
	for from <= to && l.goesOn() {
		size, end := 0, min(from+min(anchorPage, pim.Seq(l.entries))-1, to)
		l.page, size, l.err = readPage(l.ctx, l.store, l.id, from, end, l.page[:0])
		if l.err == errTrimmed { // since server has seen it
			l.err, from = nil, end+1
			continue
		}
		if l.err != nil {
			break
		}
		last := len(l.page) - 1
		l.entries -= last + 1
		l.bytes -= size
		from = l.page[last].Seq + 1
		for i := range l.page {
			if e := &l.page[i]; e.Sender == l.at.sender && is(e) {
				return *e
			}
		}
	}
	return pim.Entry{}
}
