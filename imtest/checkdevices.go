package imtest

import (
	"fmt"
	"slices"

	"github.com/pim-im/pim"
)

// String names a storage in a Violation.
func (s storage) String() string {
	if s.number == 0 {
		return fmt.Sprintf("%s's %s", s.User, s.Device.Device)
	}
	return fmt.Sprintf("%s's %s (storage %d)", s.User, s.Device.Device, s.number)
}

// checkDevices compares what devices were handed with what their users may read: I4,
// I5.
func (c *checker) checkDevices() {
	for s, entries := range c.h.handed {
		c.checkHanded(s, entries)
	}
	for d, number := range c.h.devices {
		c.checkComplete(storage{d, number})
	}
}

// checkHanded checks that s was handed only entries that its user may read, each once,
// and ascending by seq except for those that came late.
func (c *checker) checkHanded(s storage, entries []pim.Entry) {
	type position struct {
		last pim.Seq
		got  map[pim.Seq]bool
	}
	positions := make(map[pim.ConversationID]*position)
	for i, e := range entries {
		p := positions[e.Conversation]
		if p == nil {
			p = &position{got: make(map[pim.Seq]bool)}
			positions[e.Conversation] = p
		}
		switch {
		case p.got[e.Seq]:
			c.fail("I4", e.Conversation, e.Seq, "%s was handed it twice", s)
		case e.Seq < p.last && !c.h.late[s][i]:
			c.fail("I4", e.Conversation, e.Seq, "%s was handed it after seq %d", s, p.last)
		}
		if !c.log(e.Conversation).reads(s.User, e.Seq) {
			c.fail("I4", e.Conversation, e.Seq, "%s was handed it, and %s was no member then", s, s.User)
		}
		p.got[e.Seq] = true
		p.last = max(p.last, e.Seq)
	}
}

// checkComplete checks that s, the last storage of a device, was handed every entry
// that its user may read.
func (c *checker) checkComplete(s storage) {
	got := make(map[place]bool)
	for _, e := range c.h.handed[s] {
		got[place{e.Conversation, e.Seq}] = true
	}
	for conv, l := range c.logs {
		if _, own := conv.OwnUser(); own || c.passedBy(s.Device, l) {
			continue // a device need not get commands that later ones have superseded
		}
		for seq := range l.at {
			at := place{conv, seq}
			if got[at] || !l.reads(s.User, seq) || seq < l.front {
				continue
			}
			c.fail("I4", conv, seq, "%s was never handed it", s)
			if c.h.dropped[at] {
				c.fail("I5", conv, seq, "its push was withheld, and %s never got it by other means", s)
			}
		}
	}
}

// passedBy reports whether d need know nothing of the conversation of l: its user has left, and nothing of it was
// ever handed to d's last storage. Such a group is in no list any more when the devices that had it know of the leaving.
func (c *checker) passedBy(d Device, l *log) bool {
	periods := l.periods[d.User]
	if n := len(periods); n == 0 || periods[n-1].to > l.last {
		return false
	}
	return !slices.ContainsFunc(c.h.handed[storage{d, c.h.devices[d]}], func(e pim.Entry) bool { return e.Conversation == l.id })
}

// checkFronts checks that devices were told of all trims, as far as their users read, and of none that
// there was not.
func (c *checker) checkFronts() {
	for t, front := range c.h.fronts {
		l := c.log(t.conversation)
		if front > max(l.front, 1) {
			c.fail("trim", t.conversation, front, "%s was told that the log begins there, it begins at seq %d", storage{Device: t.Device}, max(l.front, 1))
		}
		if want := min(l.front, l.lastOf(t.User)+1); want > max(front, 1) && !c.passedBy(t.Device, l) {
			c.fail("trim", t.conversation, want, "%s was not told that the log begins there", storage{Device: t.Device})
		}
	}
}

// checkShown checks that a device displays all entries that its user may read and no
// others, in the display order.
func (c *checker) checkShown() {
	for _, v := range c.h.shown {
		l, d := c.log(v.conversation), storage{Device: v.Device}
		has := make(map[pim.Seq]bool, len(v.seqs))
		for i, seq := range v.seqs {
			e, ok := l.at[seq]
			switch {
			case has[seq]:
				c.fail("I4", v.conversation, seq, "%s shows it twice", d)
			case !ok:
				c.fail("I4", v.conversation, seq, "%s shows it, the log has nothing there", d)
			case !l.reads(v.User, seq):
				c.fail("I4", v.conversation, seq, "%s shows it, and %s was no member then", d, v.User)
			case seq < c.h.fronts[told{v.Device, v.conversation}]:
				c.fail("trim", v.conversation, seq, "%s shows it, and was told that it was trimmed", d)
			}
			has[seq] = true
			if !ok || i == 0 {
				continue
			}
			if prev, ok := l.at[v.seqs[i-1]]; ok && !before(&prev, &e) {
				c.fail("I4", v.conversation, seq, "%s shows it after seq %d", d, prev.Seq)
			}
		}
		if _, own := v.conversation.OwnUser(); own || len(v.seqs) == 0 && c.passedBy(v.Device, l) {
			continue // see checkComplete
		}
		for seq := range l.at {
			if !has[seq] && l.reads(v.User, seq) && seq >= l.front {
				c.fail("I4", v.conversation, seq, "%s does not show it", d)
			}
		}
	}
}
