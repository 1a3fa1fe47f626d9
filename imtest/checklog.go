package imtest

import (
	"bytes"
	"slices"

	"github.com/pim-im/pim"
)

// log is a conversation's log at the end of a run. It is a map, because it may have
// holes.
type log struct {
	id      pim.ConversationID
	at      map[pim.Seq]pim.Entry
	last    pim.Seq
	front   pim.Seq   // entries before it were trimmed; 0: none
	fronts  []pim.Seq // that there ever were, ascending
	periods map[pim.UserID][]period
}

// period is a range of seqs that a user may read, both ends included.
type period struct{ from, to pim.Seq }

// forever is the end of a period that has not ended.
const forever = pim.Seq(1<<64 - 1)

func (l *log) take(entries []pim.Entry) {
	for _, e := range entries {
		if _, known := l.at[e.Seq]; !known {
			l.at[e.Seq] = e
		}
		l.last = max(l.last, e.Seq)
	}
}

// trim takes what was trimmed. The entries stay in l.
func (l *log) trim(t trim) {
	l.take(t.entries)
	l.front = max(l.front, t.front)
	l.fronts = append(l.fronts, t.front)
}

// readers works out which user may read which seqs, from the log's own entries.
func (l *log) readers() {
	l.periods = make(map[pim.UserID][]period)
	if a, b, ok := l.id.DirectUsers(); ok {
		l.periods[a] = []period{{1, forever}}
		l.periods[b] = []period{{1, forever}}
		return
	}
	if u, ok := l.id.OwnUser(); ok {
		l.periods[u] = []period{{1, forever}}
		return
	}
	for seq := pim.Seq(1); seq <= l.last; seq++ {
		e := l.at[seq] // a hole has the kind 0
		for _, u := range e.Members {
			ps := l.periods[u]
			present := len(ps) > 0 && ps[len(ps)-1].to == forever
			switch {
			case (e.Kind == pim.EntryCreate || e.Kind == pim.EntryJoin) && !present:
				l.periods[u] = append(ps, period{seq, forever})
			case e.Kind == pim.EntryLeave && present:
				ps[len(ps)-1].to = seq
			}
		}
	}
}

// reads reports whether u may read the entry at seq.
func (l *log) reads(u pim.UserID, seq pim.Seq) bool {
	return slices.ContainsFunc(l.periods[u], func(p period) bool { return p.from <= seq && seq <= p.to })
}

// read reports whether u may read the entry at seq, or a later one.
func (l *log) read(u pim.UserID, seq pim.Seq) bool {
	return slices.ContainsFunc(l.periods[u], func(p period) bool { return seq <= p.to })
}

// lastOf returns the last seq of the log that u may read, 0 if there is none.
func (l *log) lastOf(u pim.UserID) (last pim.Seq) {
	for _, p := range l.periods[u] {
		if p.from <= l.last {
			last = max(last, min(p.to, l.last))
		}
	}
	return last
}

// checkLog checks what follows from logs alone: I2, I3, recalls, erases, the counts of mentions and
// of read commands.
func (c *checker) checkLog(l *log) {
	var count uint64
	var server pim.Millis
	seqs := make(map[pim.ClientMessageID]pim.Seq)
	for seq := pim.Seq(1); seq <= l.last; seq++ {
		e, ok := l.at[seq]
		if !ok {
			c.fail("I3", l.id, seq, "it is missing, the log goes on to %d", l.last)
			continue
		}
		if e.Kind == pim.EntryMessage {
			count++
		}
		if e.Count != count {
			c.fail("I3", l.id, seq, "its count is %d, the log has %d messages up to it", e.Count, count)
			count = e.Count // one report for each miscount
		}
		if e.Server < server {
			c.fail("I3", l.id, seq, "its server time lies %d ms before that of an earlier entry", server-e.Server)
		}
		server = max(server, e.Server)
		if a := l.anchor(&e, 1); e.Anchor != a && !l.excused(&e) {
			c.fail("I3", l.id, seq, "its anchor is %d, by the rule it is %d", e.Anchor, a)
		}
		if first, again := seqs[e.ClientID]; again {
			c.fail("I2", l.id, seq, "the message %s stands there and at seq %d", e.ClientID, first)
		} else {
			seqs[e.ClientID] = seq
		}
		c.checkSent(l, &e)
		c.checkAllowed(l, &e)
		c.checkRead(&e)
	}
	c.checkErased(l)
	c.checkMentions(l)
	if _, ok := l.at[0]; ok {
		c.fail("I3", l.id, 0, "an entry has seq 0")
	}
}

// checkSent checks that a device sent e, with exactly this content.
func (c *checker) checkSent(l *log, e *pim.Entry) {
	s, ok := c.sends[e.ClientID]
	switch {
	case !ok:
		c.fail("I3", l.id, e.Seq, "nobody sent the message %s", e.ClientID)
	case s.Sender != e.Sender || s.Device != e.Device || s.Kind != e.Kind || s.Payload != SentSum(e.Kind, e.Payload) && !e.Erased ||
		s.Refers != e.Refers || s.Reaction != e.Reaction || s.Removed != e.Removed ||
		s.MentionAll != e.MentionAll || !sameUsers(mentioned(e), s.Mentions) ||
		s.Conversation != "" && s.Conversation != l.id:
		c.fail("I3", l.id, e.Seq, "the message %s is not what %s sent", e.ClientID, s.Sender)
	case !sameUsers(e.Members, l.changed(e, &s)):
		c.fail("I3", l.id, e.Seq, "it is about %v, %s named %v", e.Members, s.Sender, s.Members)
	}
}

// checkAllowed checks that e's sender was allowed to write e.
func (c *checker) checkAllowed(l *log, e *pim.Entry) {
	switch {
	case e.Kind == pim.EntryErase && l.read(e.Sender, e.Refers): // also by who has left
	case !l.reads(e.Sender, e.Seq):
		c.fail("I3", l.id, e.Seq, "%s wrote it, and was no member then", e.Sender)
	case e.Kind == pim.EntryJoin && slices.Contains(e.Members, e.Sender):
		c.fail("I3", l.id, e.Seq, "%s let itself in", e.Sender)
	case e.Kind == pim.EntryLeave && !sameUsers(e.Members, []pim.UserID{e.Sender}):
		if owner := l.owner(e.Seq); e.Sender != owner {
			c.fail("I3", l.id, e.Seq, "%s removed %v from the group of %s", e.Sender, e.Members, owner)
		}
	}
}

// owner returns who owned the group when the entry at seq was written: of the members
// then, the one who joined first. If several joined first, by the same entry, the owner
// is the user who created the group, else the one whom the entry names first.
func (l *log) owner(seq pim.Seq) (owner pim.UserID) {
	type joining struct {
		at    pim.Seq
		place int
	}
	var first joining
	for u, periods := range l.periods {
		for _, p := range periods {
			if p.from >= seq || seq > p.to {
				continue
			}
			j := joining{p.from, 1 + slices.Index(l.at[p.from].Members, u)}
			if p.from == 1 && u == l.at[1].Sender {
				j.place = 0
			}
			if owner == "" || j.at < first.at || j.at == first.at && j.place < first.place {
				owner, first = u, j
			}
		}
	}
	return owner
}

// changed returns the users whom a create, join or leave that was sent as s is about:
// the users whom it names, and its sender if it is a create or a leave that names
// nobody, but not the users for whom nothing changes.
func (l *log) changed(e *pim.Entry, s *Send) []pim.UserID {
	named := slices.Clone(s.Members)
	if s.Kind == pim.EntryCreate || s.Kind == pim.EntryLeave && len(named) == 0 {
		named = append(named, s.Sender)
	}
	return slices.DeleteFunc(named, func(u pim.UserID) bool {
		was := slices.ContainsFunc(l.periods[u], func(p period) bool { return p.from < e.Seq && e.Seq <= p.to })
		return was != (s.Kind == pim.EntryLeave)
	})
}

// sameUsers reports whether a and b hold the same users. It is false if a user is in a
// twice; in b that does not matter.
func sameUsers(a, b []pim.UserID) bool {
	b = slices.Compact(slices.Sorted(slices.Values(b)))
	return slices.Equal(slices.Sorted(slices.Values(a)), b)
}

// The display order's bounds on a local time: how far it may lie before the server time,
// and how far after it, in milliseconds.
const (
	orderWindow pim.Millis = 180_000
	orderSlack  pim.Millis = 1_000
)

// clamped returns L', the local time as the display order takes it.
func clamped(e *pim.Entry) pim.Millis {
	clock := e.Server - e.Ahead // what the writer's clock showed
	switch {
	case e.Order != 0:
		return e.Order
	case e.Local < clock-orderWindow:
		return e.Server - orderWindow
	case e.Local > clock+orderSlack:
		return e.Server + orderSlack
	}
	return e.Local + e.Ahead
}

// Anchors returns the anchor of each entry of a conversation's log, by seq, as
// the rule gives it.
func Anchors(entries []pim.Entry) map[pim.Seq]pim.Seq {
	l := &log{at: make(map[pim.Seq]pim.Entry, len(entries))}
	l.take(entries)
	anchors := make(map[pim.Seq]pim.Seq, len(entries))
	for seq, e := range l.at {
		anchors[seq] = l.anchor(&e, 1)
	}
	return anchors
}

// anchor works out e's anchor as the rule says: the smallest seq among earlier entries
// of the same sender whose L' is greater than e's, or e's own seq if there is no such
// entry. front is that of the log when e was written: a writer need not know what is before it.
func (l *log) anchor(e *pim.Entry, front pim.Seq) pim.Seq {
	for seq := front; seq < e.Seq; seq++ {
		if o, ok := l.at[seq]; ok && o.Sender == e.Sender && clamped(&o) > clamped(e) {
			return seq
		}
	}
	return e.Seq
}

// excused reports whether e has another anchor than by the rule because its writer did not know some
// of what was trimmed. The writer may know what is before a front: a state that was loaded has each
// sender's newest anchor, and the look-up of those before it then finds them trimmed. The writer may
// also know only those entries behind a front that are their own anchors: a load takes no others.
func (l *log) excused(e *pim.Entry) bool {
	if e.Anchor < l.front && e.Anchor < e.Seq && e.Anchor == l.anchor(e, e.Anchor) {
		return true
	}
	return slices.ContainsFunc(l.fronts, func(f pim.Seq) bool { return e.Anchor == l.anchor(e, f) || e.Anchor == l.peak(e, f) })
}

// peak is anchor among the entries that are their own anchors.
func (l *log) peak(e *pim.Entry, front pim.Seq) pim.Seq {
	for seq := l.anchor(e, front); seq < e.Seq; seq++ {
		if o, ok := l.at[seq]; ok && o.Anchor == seq && o.Sender == e.Sender && clamped(&o) > clamped(e) {
			return seq
		}
	}
	return e.Seq
}

// before reports whether a is displayed before b: by (anchor, L', seq).
func before(a, b *pim.Entry) bool {
	if a.Anchor != b.Anchor {
		return a.Anchor < b.Anchor
	}
	if x, y := clamped(a), clamped(b); x != y {
		return x < y
	}
	return a.Seq < b.Seq
}

func same(a, b *pim.Entry) bool { return difference(a, b) == "" }

// difference names the first field in which a and b differ, "" if there is none.
func difference(a, b *pim.Entry) string {
	switch {
	case a.Conversation != b.Conversation:
		return "conversation"
	case a.Seq != b.Seq:
		return "seq"
	case a.Anchor != b.Anchor:
		return "anchor"
	case a.Count != b.Count:
		return "count"
	case a.Kind != b.Kind:
		return "kind"
	case a.Sender != b.Sender || a.Device != b.Device:
		return "sender"
	case a.ClientID != b.ClientID:
		return "client message ID"
	case a.Local != b.Local || a.Server != b.Server || a.Ahead != b.Ahead || a.Order != b.Order:
		return "time"
	case !slices.Equal(a.Members, b.Members):
		return "members"
	case a.Refers != b.Refers || a.Reaction != b.Reaction || a.Removed != b.Removed:
		return "message that it refers to"
	case !slices.Equal(a.Mentions, b.Mentions) || a.MentionAll != b.MentionAll || a.AllCount != b.AllCount:
		return "mentions"
	case !bytes.Equal(a.Payload, b.Payload) && !a.Erased && !b.Erased:
		return "payload"
	}
	return ""
}
