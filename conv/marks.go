package conv

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
)

// A mark says how far a present member has read the conversation by taking part in it
// (inbox.Mark). It follows from the log, lies in the snapshot, and goes into the member's line. So
// a device knows from one line how much its user has not read, and needs no entry for that.

// mark moves the marks past e, the entry that the state was moved past last.
func (c *conversation) mark(e *pim.Entry) {
	eachMarked(e, func(u pim.UserID) {
		if i := slices.Index(c.present, u); i >= 0 && len(c.marks) > 0 {
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

// markOf returns the mark of u, zero if u is not present.
func (c *conversation) markOf(u pim.UserID) inbox.Mark {
	if i := slices.Index(c.present, u); i >= 0 && len(c.marks) > 0 {
		return c.marks[i]
	}
	return inbox.Mark{}
}

// marks are those of a conversation that is being loaded. They are kept for everybody until the
// log's tail is taken, because the members' cells may tell of entries that the marks do not yet.
type marks map[pim.UserID]inbox.Mark

// take moves m past e.
func (m marks) take(e *pim.Entry) {
	eachMarked(e, func(u pim.UserID) { m[u] = inbox.Mark{Own: e.Seq, OwnCount: e.Count} })
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

// restoreMarks returns what appendMarks appended.
func restoreMarks(d *varint.Decoder) marks {
	m := make(marks)
	for n := d.Number(); n > 0 && d.Err == nil; n-- {
		u := pim.UserID(d.Text())
		m[u] = inbox.Mark{Own: pim.Seq(d.Number()), OwnCount: d.Number()}
	}
	return m
}

// setMarks gives the present members their marks, of m.
func (c *conversation) setMarks(m marks) {
	if _, own := c.id.OwnUser(); own {
		return
	}
	c.marks = make([]inbox.Mark, len(c.present))
	for i, u := range c.present {
		c.marks[i] = m[u]
	}
}
