package imtest

import (
	"slices"

	"github.com/pim-im/pim"
)

// mentioned returns the users whom e names.
func mentioned(e *pim.Entry) (users []pim.UserID) {
	for _, m := range e.Mentions {
		users = append(users, m.User)
	}
	return users
}

// names reports whether e names user.
func names(e *pim.Entry, user pim.UserID) bool { return slices.Contains(mentioned(e), user) }

// checkMentions checks the counts that the entries of l have of mentions. They follow from the
// entries before: how many messages mention all; and for each user who is named and counts it,
// the count at the user's newest own message or joining, and how many have named the user since.
func (c *checker) checkMentions(l *log) {
	all := uint64(0)
	type counted struct{ own, named uint64 }
	of := make(map[pim.UserID]counted)
	for _, e := range l.ascending() {
		if e.MentionAll {
			all++
		}
		if e.Kind == pim.EntryMessage && e.AllCount != all {
			c.fail("mentions", l.id, e.Seq, "it counts %d messages that mention all, there are %d", e.AllCount, all)
			all = e.AllCount // one report for each miscount
		}
		for _, m := range e.Mentions {
			want := uint64(0)
			if m.User != e.Sender && !e.MentionAll && l.reads(m.User, e.Seq) {
				n := of[m.User]
				n.named++
				of[m.User] = n
				want = n.own + n.named
			}
			if m.Count != want {
				c.fail("mentions", l.id, e.Seq, "it counts %d for %s, by the log %d", m.Count, m.User, want)
			}
		}
		switch e.Kind {
		case pim.EntryMessage:
			of[e.Sender] = counted{own: e.Count}
		case pim.EntryCreate, pim.EntryJoin:
			for _, u := range e.Members {
				of[u] = counted{own: e.Count}
			}
		}
	}
}
