package conv

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// The owner of a group is the present member whose membership has lasted longest. That is the
// user who made the group, until they leave, and then the next one. A user who comes back
// counts from the new join. So the owner follows from the memberships: nobody has to hand the
// group on, and nothing has to be written.

// member is a user's membership and the seq of the entry that last changed it.
type member struct {
	inbox.Membership
	at      int // in conversation.present, of a present member
	changed pim.Seq
	sent    pim.Seq // of the newest message since the state was loaded; 0: there is none
	place   int     // in Members of the entry that began the membership, from 1 on; 0: not known
}

// since returns the seq of the entry that began the membership. The user must be present.
func (m *member) since() pim.Seq { return m.Periods[len(m.Periods)-1].From }

// owner returns the owner of the group, empty if nobody is left in it. If one entry made
// several users members, the owner is the one that the entry names first. The places of the
// eldest must be known, see knowOwner.
func (c *conversation) owner() pim.UserID {
	eldest := c.eldest()
	if len(eldest) == 0 {
		return ""
	}
	return slices.MinFunc(eldest, func(a, b pim.UserID) int {
		return cmp.Or(cmp.Compare(c.members[a].place, c.members[b].place), cmp.Compare(a, b))
	})
}

// eldest returns the present members whose membership has lasted longest. One entry made all
// of them members.
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

// needsOwner reports whether a look-up is needed to know the owner: the place of one of several
// eldest is not known. Only a leave and a recall depend on who the owner is.
func (l *live) needsOwner() bool {
	eldest := l.eldest()
	return len(eldest) > 1 && slices.ContainsFunc(eldest, func(u pim.UserID) bool { return l.members[u].place == 0 })
}

// knowOwner gives the eldest their places, if needsOwner. The members' cells do not hold places,
// so knowOwner reads them from the entry that made the eldest members, once for each such entry.
func (l *live) knowOwner(ctx context.Context, s store.Store) error {
	if !l.needsOwner() {
		return nil
	}
	eldest := l.eldest()
	since := l.members[eldest[0]].since()
	entries, _, err := readLeft(ctx, s, l.id, since, since)
	if err != nil {
		return err
	}
	named := slices.Sorted(slices.Values(eldest)) // if the entry was trimmed
	if len(entries) > 0 {
		named = entries[0].Members
	}
	for i, u := range named {
		if m := l.members[u]; m != nil && m.Present() && m.since() == since {
			m.place = i + 1
		}
	}
	for _, u := range eldest { // the entry does not name some: they come behind the others
		if m := l.members[u]; m.place == 0 {
			m.place = len(named) + 1
		}
	}
	return nil
}
