package conv

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A mark says how far a present member has read the conversation by taking part in it
// (inbox.Mark). It follows from the log, lies in the snapshot, and goes into the member's line. So
// a device knows from one line how much its user has not read, and needs no entry for that.

// mark moves the marks past e, the entry that the state was moved past last.
func (c *conversation) mark(e *pim.Entry) {
	c.written = e.Time()
	eachMarked(e, func(u pim.UserID) {
		if i := c.markAt(u); i >= 0 {
			c.marks[i] = inbox.Mark{Own: e.Seq, OwnCount: e.Count}
			if c.mentions != nil {
				c.mentions.of[i] = inbox.MentionsOf{OwnAll: e.AllCount}
			}
		}
	})
}

// eachMarked calls f with every user for whom e makes everything before it read.
func eachMarked(e *pim.Entry, f func(pim.UserID)) {
	switch e.Kind {
	case pim.EntryMessage:
		f(e.Sender)
	case pim.EntryCreate, pim.EntryJoin:
		for _, u := range e.Members {
			f(u)
		}
	}
}

// markAt returns where u stands in present and marks, -1 if u has no mark. It takes no search: a
// group may have thousands of members.
func (c *conversation) markAt(u pim.UserID) int {
	if m := c.members[u]; m != nil && m.Present() {
		return m.at
	}
	if !c.id.IsGroup() {
		for i := range c.marks { // two at most
			if c.present[i] == u {
				return i
			}
		}
	}
	return -1
}

// standing is what a member's line says of the member: the mark, and the mentions.
type standing struct {
	inbox.Mark
	inbox.MentionsOf
}

// standingAt returns the standing of the member at i of present.
func (c *conversation) standingAt(i int) (s standing) {
	s.Mark = c.marks[i]
	if c.mentions != nil {
		s.MentionsOf = c.mentions.of[i]
	}
	return s
}

// setStandingAt sets the standing of the member at i of present.
func (c *conversation) setStandingAt(i int, s standing) {
	c.marks[i] = s.Mark
	if c.mentions != nil || s.MentionsOf != (inbox.MentionsOf{}) {
		c.keepMentions().of[i] = s.MentionsOf
	}
}

// markOf returns the standing of u, zero if u has none.
func (c *conversation) markOf(u pim.UserID) (s standing) {
	if i := c.markAt(u); i >= 0 {
		s = c.standingAt(i)
	}
	return s
}

// marks are those of a group that is being loaded, with the mentions. They are kept for everybody
// until the log's tail is taken, because the members' cells may tell of entries that the marks do
// not yet.
type marks map[pim.UserID]standing

// standingOf returns what is known of u while l is loaded. ok is false if u can have no standing.
func (l *live) standingOf(u pim.UserID) (s standing, ok bool) {
	if l.id.IsGroup() {
		return l.loaded[u], true
	}
	return l.markOf(u), l.markAt(u) >= 0
}

// setStanding sets what is known of u while l is loaded.
func (l *live) setStanding(u pim.UserID, s standing) {
	if l.id.IsGroup() {
		l.loaded[u] = s
	} else {
		l.setStandingAt(l.markAt(u), s)
	}
}

// takeMarks moves the marks of a conversation that is being loaded past e.
func (l *live) takeMarks(e *pim.Entry) {
	if !l.id.IsGroup() {
		l.mark(e)
		return
	}
	l.written = e.Time()
	eachMarked(e, func(u pim.UserID) {
		l.loaded[u] = standing{inbox.Mark{Own: e.Seq, OwnCount: e.Count}, inbox.MentionsOf{OwnAll: e.AllCount}}
	})
}

// linesAtOnce is how many users' lines loadMarks looks up at once, two cells each.
const linesAtOnce = store.MaxBatch / 2

// loadMarks takes the marks from the present members' lines where they know more than the state:
// entries that neither the snapshot nor the tail tells of were trimmed, or are too many. If bare
// is set, no entry tells the count and the times of the log's last one, and the lines tell them too.
func (l *live) loadMarks(ctx context.Context, s store.Store, bare bool) error {
	if _, own := l.id.OwnUser(); own {
		return nil
	}
	told, newer := false, false
	for users := range slices.Chunk(l.present, linesAtOnce) {
		gets := make([]store.Get, 0, 2*len(users))
		for _, u := range users {
			gets = append(gets,
				store.Get{Partition: inbox.Fresh(u), Key: string(l.id)}, // first: a line is in Lines before it is forgotten in Fresh
				store.Get{Partition: inbox.Lines(u), Key: string(l.id)})
		}
		if err := s.Get(ctx, gets); err != nil {
			return err
		}
		for i := range gets {
			if cell := gets[i].Cell; cell.Version != 0 {
				line, err := inbox.ParseLine(cell)
				if err != nil {
					return err
				}
				l.learn(users[i/2], line)
				newer = newer || line.Newest > l.last
				if bare && line.Newest == l.last {
					l.learnEnd(line)
					told = true
				}
			}
		}
	}
	switch {
	case !bare || told || len(l.present) == 0:
		return nil
	case newer: // another writer has gone on since the log's last seq was read
		return errTrimmed
	}
	return pim.Errorf(pim.KindCorrupt, "%s was trimmed up to seq %d, and nothing tells its count there", l.id, l.last)
}

// learnEnd takes what line tells of the log's last entry, which was trimmed. How far its server
// time was ahead of its writer's clock is not known.
func (l *live) learnEnd(line inbox.Line) {
	l.count = line.Count
	if line.All != 0 {
		l.keepMentions().all = line.All
	}
	if t := l.times.State(); line.Time > t.Server {
		l.times = pim.TimesState{Server: line.Time}.Times()
	}
	l.floor = floor{l.last, l.times.State().Server + pim.OrderSlack}
}

// learn takes from u's line what is newer there, if the line is of u's present membership.
func (l *live) learn(u pim.UserID, line inbox.Line) {
	if line.Newest == l.last && line.Time != 0 {
		l.written = line.Time
	}
	at, ok := l.standingOf(u)
	if m := l.members[u]; !ok || m != nil && line.Own < m.Since() {
		return
	}
	if line.Own > at.Own {
		at.Mark, at.OwnAll = line.Mark, line.OwnAll
	}
	if at.Named = max(at.Named, line.Named); at.Named <= at.OwnCount {
		at.Named = 0
	}
	l.setStanding(u, at)
}

// departure is a user whose membership an entry ends, and the user's last line.
type departure struct {
	user pim.UserID
	line inbox.Line
}

// departures returns the users who leave with e. of returns their standings before e.
func departures(e *pim.Entry, of func(pim.UserID) standing) (gone []departure) {
	if e.Kind != pim.EntryLeave {
		return nil
	}
	for _, u := range e.Members {
		s := of(u)
		gone = append(gone, departure{u, inbox.Line{
			Newest: e.Seq, Count: e.Count, Left: true, Time: e.Time(), Mark: s.Mark, All: e.AllCount, MentionsOf: s.MentionsOf,
		}})
	}
	return gone
}

// appendMarks appends the marks that are known.
func appendMarks(e *varint.Encoder, c *conversation) {
	known := func(m inbox.Mark) bool { return m != inbox.Mark{} }
	n := 0
	for _, m := range c.marks {
		if known(m) {
			n++
		}
	}
	e.Number(uint64(n))
	for i, m := range c.marks {
		if known(m) {
			e.Text(string(c.present[i]))
			e.Number(uint64(m.Own))
			e.Number(m.OwnCount)
		}
	}
}

// restoreMarks restores what appendMarks appended.
func restoreMarks(d *varint.Decoder, l *live) {
	for n := d.Number(); n > 0 && d.Err == nil; n-- {
		u := pim.UserID(d.Text())
		m := inbox.Mark{Own: pim.Seq(d.Number()), OwnCount: d.Number()}
		if at, ok := l.standingOf(u); ok {
			at.Mark = m
			l.setStanding(u, at)
		}
	}
}

// setMarks gives the present members of a group that was loaded their marks.
func (l *live) setMarks() {
	if !l.id.IsGroup() {
		return
	}
	l.marks = make([]inbox.Mark, len(l.present))
	if l.mentions != nil {
		l.mentions.of = make([]inbox.MentionsOf, len(l.present))
	}
	for i, u := range l.present {
		l.setStandingAt(i, l.loaded[u])
		l.members[u].at = i
	}
	l.loaded = nil
}
