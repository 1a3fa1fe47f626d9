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

// markOf returns the mark of u, zero if u has none.
func (c *conversation) markOf(u pim.UserID) (m inbox.Mark) {
	if i := c.markAt(u); i >= 0 {
		m = c.marks[i]
	}
	return m
}

// marks are those of a group that is being loaded. They are kept for everybody until the log's
// tail is taken, because the members' cells may tell of entries that the marks do not yet.
type marks map[pim.UserID]inbox.Mark

// takeMarks moves the marks of a conversation that is being loaded past e.
func (l *live) takeMarks(e *pim.Entry) {
	if !l.id.IsGroup() {
		l.mark(e)
		return
	}
	l.written = e.Time()
	eachMarked(e, func(u pim.UserID) { l.loaded[u] = inbox.Mark{Own: e.Seq, OwnCount: e.Count} })
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
	if t := l.times.State(); line.Time > t.Server {
		l.times = pim.TimesState{Server: line.Time}.Times()
	}
	l.floor = floor{l.last, l.times.State().Server + pim.OrderSlack}
}

// learn takes the mark of u, who is present, from u's line, if it is of this membership and newer.
func (l *live) learn(u pim.UserID, line inbox.Line) {
	if line.Newest == l.last && line.Time != 0 {
		l.written = line.Time
	}
	if m := l.members[u]; m != nil {
		if line.Own >= m.since() && line.Own > l.loaded[u].Own {
			l.loaded[u] = line.Mark
		}
	} else if i := l.markAt(u); i >= 0 && line.Own > l.marks[i].Own {
		l.marks[i] = line.Mark
	}
}

// departure is a user whose membership an entry ends, and the user's last line.
type departure struct {
	user pim.UserID
	line inbox.Line
}

// departures returns the users who leave with e. mark returns their marks before e.
func departures(e *pim.Entry, mark func(pim.UserID) inbox.Mark) (gone []departure) {
	if e.Kind != pim.EntryLeave {
		return nil
	}
	for _, u := range e.Members {
		gone = append(gone, departure{u, inbox.Line{Newest: e.Seq, Count: e.Count, Left: true, Time: e.Time(), Mark: mark(u)}})
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
		if i := l.markAt(u); l.id.IsGroup() {
			l.loaded[u] = m
		} else if i >= 0 {
			l.marks[i] = m
		}
	}
}

// setMarks gives the present members of a group that was loaded their marks.
func (l *live) setMarks() {
	if !l.id.IsGroup() {
		return
	}
	l.marks = make([]inbox.Mark, len(l.present))
	for i, u := range l.present {
		l.marks[i], l.members[u].at = l.loaded[u], i
	}
	l.loaded = nil
}
