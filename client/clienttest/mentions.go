package clienttest

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// mention sets what the server writes of mentions into e, the next entry of l.
func (l *log) mention(e *pim.Entry, names []string) {
	if n := len(l.entries); n > 0 {
		e.AllCount = l.entries[n-1].AllCount
	}
	if e.MentionAll {
		e.AllCount++
	}
	for _, name := range names {
		m := pim.Mention{User: pim.UserID(name)}
		if m.User != e.Sender && !e.MentionAll && l.member(e.Conversation, m.User) {
			_, own := l.mark(e.Conversation, m.User)
			m.Count = max(own, l.named(m.User, e.Seq-1)) + 1
		}
		if !slices.ContainsFunc(e.Mentions, func(other pim.Mention) bool { return other.User == m.User }) {
			e.Mentions = append(e.Mentions, m)
		}
	}
}

// named returns the count of the last mention of user up to seq, 0 if there is none.
func (l *log) named(user pim.UserID, seq pim.Seq) (count uint64) {
	for i := range l.entries {
		if e := &l.entries[i]; e.Seq <= seq {
			count = max(count, e.NamedIn(user))
		}
	}
	return count
}

// standing returns what a Summary for user says of the counts of c.
func (l *log) standing(c pim.ConversationID, user pim.UserID) *wirepb.Standing {
	newest := l.newest(c, user)
	s := &wirepb.Standing{Newest: uint64(newest), Count: l.entries[newest-1].Count, AllCount: l.mentionsAll(newest)}
	s.Own, s.OwnCount = l.mark(c, user)
	s.OwnAll = l.mentionsAll(pim.Seq(s.Own))
	if named := l.named(user, newest); named > s.OwnCount {
		s.Named = named
	}
	return s
}

// mentionsAll returns how many messages up to seq mention all.
func (l *log) mentionsAll(seq pim.Seq) uint64 {
	if seq = min(seq, pim.Seq(len(l.entries))); seq == 0 {
		return 0
	}
	return l.entries[seq-1].AllCount
}
