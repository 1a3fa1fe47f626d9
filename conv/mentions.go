package conv

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
)

// A message may name users, and it may mention all. What each member has not read of that is a
// difference of two numbers, as with messages: the entry counts the messages that mention all
// (pim.Entry.AllCount), and with each name it has a count of that user's (pim.Mention.Count). The
// state knows both for each present member, and so does the member's line. How often a user was
// named up to a seq in the middle of the log is in cells (inbox.MentionCell), for read commands.

// mentions are what the state knows of them.
type mentions struct {
	all uint64             // messages up to last that mention all
	of  []inbox.MentionsOf // of those in present, beside marks
}

// mention counts what r, whose entry e is a message, mentions.
func (c *conversation) mention(e *pim.Entry, r *Request) {
	if c.mentions == nil && !r.MentionAll && len(r.Mentions) == 0 {
		return // the usual case
	}
	m := c.keepMentions()
	if r.MentionAll {
		e.MentionAll = true
		m.all++
	}
	e.AllCount = m.all
	for _, u := range r.Mentions {
		named := pim.Mention{User: u}
		if i := c.markAt(u); i >= 0 && u != e.Sender && !r.MentionAll {
			m.of[i].Named = max(m.of[i].Named, c.marks[i].OwnCount) + 1
			named.Count = m.of[i].Named
		}
		e.Mentions = append(e.Mentions, named)
	}
}

// keepMentions returns c.mentions, which most conversations do not need.
func (c *conversation) keepMentions() *mentions {
	if c.mentions == nil {
		c.mentions = &mentions{of: make([]inbox.MentionsOf, len(c.marks))}
	}
	return c.mentions
}

// room returns how many bytes m takes up, about.
func (m *mentions) room() int {
	if m == nil {
		return 0
	}
	const itself, each = 48, 16
	return itself + each*len(m.of)
}

// all returns how many messages up to the last entry mention all.
func (c *conversation) all() uint64 {
	if c.mentions == nil {
		return 0
	}
	return c.mentions.all
}

// takeMentions applies an entry of a log that is being loaded.
func (l *live) takeMentions(e *pim.Entry) {
	if e.AllCount != 0 {
		l.keepMentions().all = e.AllCount
	}
	for _, m := range e.Mentions {
		if m.Count == 0 {
			continue
		}
		l.unsettledMentions = append(l.unsettledMentions, inbox.MentionCell(l.id, e.Seq, m))
		if at, ok := l.standingOf(m.User); ok {
			at.Named = max(at.Named, m.Count)
			l.setStanding(m.User, at)
		}
	}
}

// appendMentions appends the mentions of those in present.
func appendMentions(e *varint.Encoder, c *conversation) {
	e.Number(c.all())
	if c.mentions == nil {
		e.Number(0)
		return
	}
	n := 0
	for _, m := range c.mentions.of {
		if m != (inbox.MentionsOf{}) {
			n++
		}
	}
	e.Number(uint64(n))
	for i, m := range c.mentions.of {
		if m != (inbox.MentionsOf{}) {
			e.Text(string(c.present[i]))
			e.Number(m.Named)
			e.Number(m.OwnAll)
		}
	}
}

// restoreMentions restores what appendMentions appended; the marks are restored before.
func restoreMentions(d *varint.Decoder, l *live) {
	if all := d.Number(); all > 0 {
		l.keepMentions().all = all
	}
	for n := d.Number(); n > 0 && d.Err == nil; n-- {
		u := pim.UserID(d.Text())
		at, ok := l.standingOf(u)
		at.MentionsOf = inbox.MentionsOf{Named: d.Number(), OwnAll: d.Number()}
		if ok {
			l.setStanding(u, at)
		}
	}
}
