package conv

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
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
	asked   bool       // an invitation may be counted for the user, see inbox.Invited; set since the state was loaded
	by      pim.UserID // who has invited the user last since then
	sent    pim.Seq    // of the newest message since the state was loaded; 0: there is none
	place   int        // in Members of the entry that began the membership, from 1 on; 0: not known
}

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
			case m.Since() > first.Since():
				continue
			case m.Since() < first.Since():
				users = users[:0]
			}
		}
		users = append(users, u)
	}
	return users
}

// asksOwner reports whether what becomes of r depends on who the owner is.
func (c *conversation) asksOwner(r *Request) bool {
	return c.id.IsGroup() && (r.Kind == pim.EntryLeave || r.Kind == pim.EntryRecall || r.Kind == pim.EntryRetain)
}

// needsOwner reports whether a look-up is needed to know the owner: the place of one of several
// eldest is not known.
func (l *live) needsOwner() bool {
	eldest := l.eldest()
	return len(eldest) > 1 && slices.ContainsFunc(eldest, func(u pim.UserID) bool { return l.members[u].place == 0 })
}

// knowOwner gives the eldest their places, if needsOwner. The members' cells do not hold places,
// so knowOwner reads them from the entry that made the eldest members, once for each such entry.
// If the entry was trimmed, they are in the cell that the trim has left.
func (l *live) knowOwner(ctx context.Context, s store.Store) error {
	if !l.needsOwner() {
		return nil
	}
	eldest := l.eldest()
	since := l.members[eldest[0]].Since()
	named, err := inbox.Named(ctx, s, l.id, since)
	if err != nil {
		return err
	}
	if named == nil { // the cell is lost: the maker comes first, and then they go by their names
		named = slices.SortedFunc(slices.Values(eldest), func(a, b pim.UserID) int {
			if m := l.members[a].Maker; m != l.members[b].Maker {
				return cmp.Or(map[bool]int{true: -1}[m], 1)
			}
			return cmp.Compare(a, b)
		})
	}
	for i, u := range named {
		if m := l.members[u]; m != nil && m.Present() && m.Since() == since {
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

// placesCells returns the cells with the order of the present members whose memberships began
// together, with an entry from l.front to upTo, so that the owner is known when it was trimmed.
func (l *live) placesCells(ctx context.Context, s store.Store, upTo pim.Seq) (cells []store.CellWrite, err error) {
	together := make(map[pim.Seq]int)
	for _, u := range l.present {
		if m := l.members[u]; m != nil && l.front <= m.Since() && m.Since() <= upTo {
			together[m.Since()]++
		}
	}
	for since, n := range together {
		if n == 1 {
			continue
		}
		named, err := inbox.Named(ctx, s, l.id, since)
		if err != nil {
			return nil, err
		}
		var e varint.Encoder
		for _, u := range named {
			if m := l.members[u]; m != nil && m.Present() && m.Since() == since {
				e.Text(string(u))
			}
		}
		cells = append(cells, store.CellWrite{
			Partition: inbox.Places(l.id),
			Cell:      store.Cell{Key: inbox.PlacesKey(since), Version: uint64(since), Value: e.B},
		})
	}
	return cells, nil
}
