package conv

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// Who owns a group follows from who is in it, so nobody has to hand it on and nothing
// has to be written: it is who has been there longest. That is who made it, until they
// leave; then the one after. Who comes back comes last.

// member is a user's membership and the seq of the entry that last changed it.
type member struct {
	inbox.Membership
	changed pim.Seq
	place   int // among the members of the entry that began it, from 1 on; 0: not known
}

// since returns the seq of the entry that began the membership, which lasts.
func (m *member) since() pim.Seq { return m.Periods[len(m.Periods)-1].From }

// owner returns who owns the group, empty if nobody is left in it. Of those whom one
// entry made members it is the one that it names first; knowOwner has seen to it that
// their places are known.
func (c *conversation) owner() pim.UserID {
	eldest := c.eldest()
	if len(eldest) == 0 {
		return ""
	}
	return slices.MinFunc(eldest, func(a, b pim.UserID) int {
		return cmp.Or(cmp.Compare(c.members[a].place, c.members[b].place), cmp.Compare(a, b))
	})
}

// eldest returns those who have been members for longest: of one entry.
func (c *conversation) eldest() (users []pim.UserID) {
	for _, u := range c.present {
		m := c.members[u]
		if len(users) > 0 {
			switch first := c.members[users[0]]; {
			case m.since() > first.since():
				continue
			case m.since() < first.since():
				users = users[:0]
			}
		}
		users = append(users, u)
	}
	return users
}

// knowOwner sees to it that owner knows the places of those among whom it chooses. Cells
// have none: they are read from the entry, once for each that the eldest are of.
func (l *live) knowOwner(ctx context.Context, s store.Store, r *Request) error {
	if r.Kind != pim.EntryLeave {
		return nil
	}
	eldest := l.eldest()
	if len(eldest) < 2 || !slices.ContainsFunc(eldest, func(u pim.UserID) bool { return l.members[u].place == 0 }) {
		return nil
	}
	since := l.members[eldest[0]].since()
	entries, err := readEntries(ctx, s, l.id, since, since)
	if err != nil {
		return err
	}
	for i, u := range entries[0].Members {
		if m := l.members[u]; m != nil && m.Present() && m.since() == since {
			m.place = i + 1
		}
	}
	for _, u := range eldest { // whom the entry does not name comes behind those whom it does
		if m := l.members[u]; m.place == 0 {
			m.place = len(entries[0].Members) + 1
		}
	}
	return nil
}
