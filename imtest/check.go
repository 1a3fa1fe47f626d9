package imtest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pim-im/pim"
)

// Violation is a broken invariant.
type Violation struct {
	Invariant    string             // "I1" to "I7", "unread", "mentions", "fold", "recall", "erase", "trim" or "receipts"
	Conversation pim.ConversationID // empty if the violation is about no conversation
	Seq          pim.Seq            // 0 if it is about no single entry
	Text         string
}

// String returns v as one line.
func (v Violation) String() string {
	s := v.Invariant
	if v.Conversation != "" {
		s += " " + string(v.Conversation)
	}
	if v.Seq != 0 {
		s += fmt.Sprintf(" seq %d", v.Seq)
	}
	return s + ": " + v.Text
}

// Check returns the violations of the invariants in h, nil if there are none. The run
// must be over: nothing is recorded any more, what was recorded of the end was read
// after the last Ack, and every device that was ever opened was online long enough to
// catch up.
//
//   - I1: an acknowledged entry is in the log, at its seq, with its content; every user
//     who may read it can pull it, and the user's offline list reaches up to it.
//   - I2: a client message ID is at most once in a conversation's log, and all answers
//     to it agree; if it was refused for good, it is in no log.
//   - I3: seqs are 1..n, and an entry is the same wherever it is seen. Counts and
//     anchors follow from the log, and server times do not fall. Every entry was sent
//     by its sender, who was a member then. A join or leave is about the users whom its
//     sender named. Nobody joined by an entry of their own, and only the owner of a
//     group removed others.
//   - I4: every device was handed all entries of its user's membership and no others,
//     each once, ascending by seq, and shows all of them, in the display order.
//   - I5: an entry whose push was withheld reached the devices all the same.
//   - I6: no cell was seen at a lower version than it had before.
//   - I7: no two entries were seen at one seq.
//   - unread: the list of every device shows what List says, and the count in a read command is that
//     of the entry that it names.
//   - mentions: the list of every device shows as many unread mentions as List says, and the counts
//     that an entry has of them follow from the log.
//   - fold: every device displays of a message what Display says.
//   - recall: neither the log nor the store of a device whose user may read the recall has a payload
//     of the message, or of its edits.
//   - erase: nor has it a payload of what a user wrote and then erased. Nothing else is erased.
//   - trim: neither the log nor a pull has an entry before the log's front, every device was told the
//     front, and its store has none before it. A trim changes nothing else: everything
//     above is judged by all entries that there ever were, but devices need not have those before
//     the front.
//   - receipts: nobody was told that something was read or delivered which was not, or that is not
//     durable; of a message that n of m have read it, by the memberships. At the end everybody is
//     told all that was read.
func Check(h *History) []Violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := newChecker(h)
	c.checkSightings()
	for _, l := range c.logs {
		c.checkLog(l)
	}
	c.checkAcks()
	c.checkRefusals()
	c.checkFinals()
	c.checkLines()
	c.checkDevices()
	c.checkShown()
	c.checkFronts()
	c.checkListed()
	c.checkKept()
	c.checkReceipts()
	c.checkCells()
	slices.SortStableFunc(c.found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Invariant, b.Invariant), cmp.Compare(a.Conversation, b.Conversation),
			cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(c.found)
}

// checker is the state of one Check.
type checker struct {
	h     *History
	logs  map[pim.ConversationID]*log
	sends map[pim.ClientMessageID]Send
	acked map[place]bool
	found []Violation
}

func (c *checker) fail(invariant string, conv pim.ConversationID, seq pim.Seq, format string, args ...any) {
	c.found = append(c.found, Violation{invariant, conv, seq, fmt.Sprintf(format, args...)})
}

func newChecker(h *History) *checker {
	c := &checker{
		h: h, logs: make(map[pim.ConversationID]*log),
		sends: make(map[pim.ClientMessageID]Send), acked: make(map[place]bool),
	}
	for _, s := range h.sends {
		c.sends[s.ClientID] = s
	}
	for _, a := range h.acks {
		c.acked[place{a.Conversation, a.Seq}] = true
		c.log(a.Conversation)
	}
	for conv, entries := range h.logs {
		c.log(conv).take(entries)
	}
	for conv, trims := range h.trims {
		for _, t := range trims {
			c.log(conv).trim(t)
		}
	}
	for _, f := range h.finals {
		c.name(f.entries)
		l := c.log(f.conversation)
		if _, stored := h.logs[f.conversation]; !stored {
			l.take(f.entries)
		}
	}
	for _, entries := range h.handed {
		c.name(entries)
	}
	for _, r := range h.reads {
		c.name(r.entries)
	}
	for _, l := range c.logs {
		l.readers()
	}
	return c
}

// name makes sure that there is a log, if only an empty one, for the conversation of
// each of entries.
func (c *checker) name(entries []pim.Entry) {
	for i := range entries {
		c.log(entries[i].Conversation)
	}
}

func (c *checker) log(conv pim.ConversationID) *log {
	l := c.logs[conv]
	if l == nil {
		l = &log{id: conv, at: make(map[pim.Seq]pim.Entry)}
		c.logs[conv] = l
	}
	return l
}

// checkSightings compares every entry that anybody ever saw with the log: I3, I7.
func (c *checker) checkSightings() {
	first := make(map[place]pim.Entry) // the first sighting of each entry that the log lacks
	check := func(who string, e pim.Entry) {
		at := place{e.Conversation, e.Seq}
		was, ok := c.log(e.Conversation).at[e.Seq]
		if !ok {
			if was, ok = first[at]; !ok {
				first[at] = e
				return
			}
		}
		switch {
		case was.ClientID != e.ClientID:
			c.fail("I7", e.Conversation, e.Seq, "%s saw the message %s there, the log has %s", who, e.ClientID, was.ClientID)
		case !same(&was, &e):
			c.fail("I3", e.Conversation, e.Seq, "%s saw it differ from the log in its %s", who, difference(&was, &e))
		}
	}
	for s, entries := range c.h.handed {
		for _, e := range entries {
			check(s.String(), e)
		}
	}
	for _, reads := range [][]read{c.h.reads, c.h.finals} {
		for _, r := range reads {
			for _, e := range r.entries {
				check(string(r.user), e)
			}
		}
	}
	for at, e := range first {
		c.fail("I3", at.conversation, at.seq, "the message %s was seen there, at the end the log has nothing", e.ClientID)
	}
	for conv, entries := range c.h.logs {
		for _, e := range entries {
			switch {
			case e.Conversation != conv:
				c.fail("I3", conv, e.Seq, "an entry of %s is in the log", e.Conversation)
			case e.Seq < c.log(conv).front:
				c.fail("trim", conv, e.Seq, "it is in the log, which was trimmed up to seq %d", c.log(conv).front-1)
			}
			check("the stored log", e)
		}
	}
}

// checkAcks compares the answers with the log and with each other: I1, I2, I7.
func (c *checker) checkAcks() {
	answers := make(map[pim.ClientMessageID]Ack)
	holders := make(map[place]pim.ClientMessageID)
	for _, a := range c.h.acks {
		if b, ok := answers[a.ClientID]; !ok {
			answers[a.ClientID] = a
		} else if a.User == b.User && !c.agree(a, b) {
			c.fail("I2", a.Conversation, a.Seq, "the message %s was acknowledged there and at seq %d of %s", a.ClientID, b.Seq, b.Conversation)
		}
		at := place{a.Conversation, a.Seq}
		if id, ok := holders[at]; ok && id != a.ClientID {
			c.fail("I7", a.Conversation, a.Seq, "the messages %s and %s were both acknowledged there", id, a.ClientID)
		}
		holders[at] = a.ClientID
		c.checkAck(a)
	}
}

func (c *checker) checkAck(a Ack) {
	e, ok := c.log(a.Conversation).at[a.Seq]
	switch {
	case !ok:
		c.fail("I1", a.Conversation, a.Seq, "%s's message %s was acknowledged there, the log has nothing", a.User, a.ClientID)
	case e.ClientID != a.ClientID:
		c.fail("I1", a.Conversation, a.Seq, "%s's message %s was acknowledged there, the log has %s", a.User, a.ClientID, e.ClientID)
	case c.trimmed(&a):
	case e.Sender != a.User || e.Anchor != a.Anchor || e.Server != a.Server || e.Count != a.Count:
		c.fail("I1", a.Conversation, a.Seq, "the answer to %s is not that of its entry", a.ClientID)
	}
	if s, ok := c.sends[a.ClientID]; !ok {
		c.fail("I1", a.Conversation, a.Seq, "%s was acknowledged a message %s that it did not send", a.User, a.ClientID)
	} else if s.Conversation != "" && s.Conversation != a.Conversation {
		c.fail("I1", a.Conversation, a.Seq, "the message %s was sent to %s", a.ClientID, s.Conversation)
	}
}

// checkRefusals checks that a message that was refused for good is in no log and was
// not acknowledged: I2.
func (c *checker) checkRefusals() {
	if len(c.h.refused) == 0 {
		return
	}
	where := make(map[refused]place)
	for conv, l := range c.logs {
		for seq, e := range l.at {
			where[refused{e.Sender, e.ClientID}] = place{conv, seq}
		}
	}
	acked := make(map[refused]place)
	for _, a := range c.h.acks {
		acked[refused{a.User, a.ClientID}] = place{a.Conversation, a.Seq}
	}
	for _, r := range c.h.refused {
		if at, ok := acked[r]; ok {
			c.fail("I2", at.conversation, at.seq, "%s's message %s was acknowledged there, and refused", r.user, r.id)
		} else if at, ok := where[r]; ok {
			c.fail("I2", at.conversation, at.seq, "%s's message %s was refused, and stands there", r.user, r.id)
		}
	}
}

// agree reports whether two answers to one message say the same.
func (c *checker) agree(a, b Ack) bool {
	if c.trimmed(&a) || c.trimmed(&b) {
		return a.Conversation == b.Conversation && a.Seq == b.Seq
	}
	a.Duplicate, a.Device = b.Duplicate, b.Device
	return a == b
}

// trimmed reports whether a answers a message that was sent again after its entry had been
// trimmed. Such an answer tells the seq and nothing else.
func (c *checker) trimmed(a *Ack) bool {
	return a.Duplicate && a.Seq < c.log(a.Conversation).front && a.Server == 0
}

// checkFinals compares what users pull at the end with what they may read: I1, I4.
func (c *checker) checkFinals() {
	for _, f := range c.h.finals {
		l := c.log(f.conversation)
		last := pim.Seq(0)
		got := make(map[pim.Seq]bool, len(f.entries))
		for _, e := range f.entries {
			if e.Seq <= last {
				c.fail("I4", f.conversation, e.Seq, "%s pulls it after seq %d", f.user, last)
			}
			last = max(last, e.Seq)
			got[e.Seq] = true
			if !l.reads(f.user, e.Seq) {
				c.fail("I4", f.conversation, e.Seq, "%s pulls it and was no member then", f.user)
			}
			if e.Seq < l.front {
				c.fail("trim", f.conversation, e.Seq, "%s pulls it, and it was trimmed", f.user)
			}
		}
		for seq := range l.at {
			if !l.reads(f.user, seq) || got[seq] || seq < l.front {
				continue
			}
			if c.acked[place{f.conversation, seq}] {
				c.fail("I1", f.conversation, seq, "it was acknowledged, and %s does not get it by pulling", f.user)
			} else {
				c.fail("I4", f.conversation, seq, "%s does not get it by pulling", f.user)
			}
		}
	}
}

// checkLines checks that the offline lists of an acknowledged entry's readers reach up
// to the entry: I1.
func (c *checker) checkLines() {
	for _, ln := range c.h.lines {
		l := c.log(ln.conversation)
		for seq := range l.at {
			if seq > ln.newest && l.reads(ln.user, seq) && c.acked[place{ln.conversation, seq}] {
				c.fail("I1", ln.conversation, seq, "it was acknowledged, and %s's offline list ends at %d", ln.user, ln.newest)
			}
		}
	}
}

// checkCells looks for cells whose version fell: I6.
func (c *checker) checkCells() {
	type mark struct {
		at      int
		version uint64
	}
	type state struct {
		marks   []mark // lower bounds of the version, each from an event on
		durable uint64
	}
	cells := make(map[cell]*state)
	of := func(k cell) *state {
		if cells[k] == nil {
			cells[k] = new(state)
		}
		return cells[k]
	}
	crash := 0
	for at, e := range c.h.cells {
		if e.kind == crashed {
			crash = at
			for _, s := range cells {
				s.marks = append(s.marks, mark{at, s.durable})
			}
			continue
		}
		s := of(e.cell)
		if e.kind == saw && e.since > crash {
			// marks[i-1] is the last mark that was set before the read began.
			i, _ := slices.BinarySearchFunc(s.marks, e.since, func(m mark, at int) int { return cmp.Compare(m.at, at) })
			gone := e.version == 0 && i > 0 && c.h.forgotten[e.cell] >= s.marks[i-1].version
			if i > 0 && e.version < s.marks[i-1].version && !gone {
				c.fail("I6", "", 0, "cell %q of %q fell from version %d to %d", e.cell.key, e.cell.partition, s.marks[i-1].version, e.version)
			}
		}
		if e.kind == wroteDurably {
			s.durable = max(s.durable, e.version)
		}
		if n := len(s.marks); n == 0 || e.version > s.marks[n-1].version {
			s.marks = append(s.marks, mark{at, e.version})
		}
	}
}
