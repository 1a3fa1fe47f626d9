package conv

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A create or join makes members of those who let its sender add them, and invites the others, see inbox.Consents. The entry
// says who is which, so memberships follow from the log alone. Whether an invitation reaches the user does not: the other members read the
// log, and are not to know. It is in the user's membership cell (inbox.Membership.Untold), which is written with the entry.
//
// An invited user is no member: nothing is written or sent for them but the entry that invites, and the one that ends the invitation. They
// may add themselves, and nobody else, or decline by a leave.

// answersInvitation reports whether r is of a kind by which an invited user comes or declines, and names nobody else.
func (r *Request) answersInvitation() bool {
	others := func(u pim.UserID) bool { return u != r.Sender }
	return (r.Kind == pim.EntryJoin || r.Kind == pim.EntryLeave) && !slices.ContainsFunc(r.Members, others)
}

// needsConsents reports whether the consents of those whom r names must be looked up before r is stepped. Nothing is
// looked up for a sender who may not add anybody.
func (l *live) needsConsents(r *Request) bool {
	switch m := l.members[r.Sender]; {
	case !l.consent:
		return false
	case r.Kind == pim.EntryCreate:
		if l.last != 0 {
			return false
		}
	case r.Kind != pim.EntryJoin || m == nil || !m.Present():
		return false
	}
	return slices.ContainsFunc(r.Members, func(u pim.UserID) bool {
		m := l.members[u]
		return u != r.Sender && (m == nil || !m.Present())
	})
}

// consentsFor looks up what becomes of those whom r names.
func consentsFor(ctx context.Context, s store.Store, r *Request) (map[pim.UserID]inbox.Consent, error) {
	users := distinct(slices.DeleteFunc(slices.Clone(r.Members), func(u pim.UserID) bool { return u == r.Sender }))
	found, err := inbox.Consents(ctx, s, r.Sender, users)
	if err != nil {
		return nil, err
	}
	consents := make(map[pim.UserID]inbox.Consent, len(users))
	for i, u := range users {
		consents[u] = found[i]
	}
	return consents, nil
}

// divide divides users, whom allow has returned for r, into those whose membership r changes, and those whom it invites or whose
// invitation it ends. Who is invited already, and still has to be asked, is in neither. If nobody remains, it returns an error.
func (c *conversation) divide(r *Request, users []pim.UserID, consents map[pim.UserID]inbox.Consent) (members, invited []pim.UserID, err error) {
	if len(consents) == 0 && r.Kind != pim.EntryLeave {
		return users, nil, nil
	}
	for _, u := range users {
		m := c.members[u]
		switch {
		case r.Kind == pim.EntryLeave && !m.Present():
			invited = append(invited, u)
		case r.Kind == pim.EntryLeave || consents[u] == inbox.Adds:
			members = append(members, u)
		case m == nil || !m.Invited:
			invited = append(invited, u)
		}
	}
	if len(members)+len(invited) == 0 {
		err = pim.Errorf(pim.KindInvalid, "all of them are members of %s, or invited", c.id)
	}
	return members, invited, err
}

// invite applies to the memberships what e says of invitations, and returns the lines of those whom e invites, and
// whose invitation it ends; a line with no seq says that the user hears of none of that. untold says so of those
// whom e invites. Like change, it leaves a member alone whose membership already accounts for e.
func (c *conversation) invite(e *pim.Entry, untold map[pim.UserID]bool) (lines []departure) {
	if len(e.Invited) > 0 && c.members == nil {
		c.members = make(map[pim.UserID]*member)
	}
	for _, u := range e.Invited {
		m := c.members[u]
		if m == nil {
			m = new(member)
			c.members[u] = m
		}
		ends := e.Kind == pim.EntryLeave
		if e.Seq > m.changed {
			m.changed = e.Seq
			switch {
			case ends && m.Invited:
				m.Decline(e.Seq)
			case !ends && !m.Present():
				m.Invite(e.Seq, untold[u])
			}
		}
		if m.asked = true; !ends {
			m.by = e.Sender
		}
		d := departure{user: u}
		if !m.Untold {
			d.line = inbox.Line{
				Newest: e.Seq, Count: e.Count, Left: true, Invited: !ends, Time: e.Time(), All: e.AllCount,
				Mark: inbox.Mark{Own: e.Seq, OwnCount: e.Count}, MentionsOf: inbox.MentionsOf{OwnAll: e.AllCount},
			}
		}
		lines = append(lines, d)
	}
	return lines
}

// keepLine keeps in lines the last line of d.user. One without a seq takes the place of none.
func keepLine(lines map[pim.UserID]inbox.Line, d departure) {
	if _, known := lines[d.user]; !known || d.line.Newest != 0 {
		lines[d.user] = d.line
	}
}

// readsFrom returns the first entry up to line.Newest that the user gets who is not present any more, of those from seq from on: of
// an invitation, and of its end, only that entry.
func readsFrom(line inbox.Line, from pim.Seq) pim.Seq {
	if line.Own == line.Newest {
		return line.Newest
	}
	return from
}

// memberCells appends to cells those that follow from a change of u's membership. line is u's last line if u is not present; if it
// has no seq, u gets none.
func (c *live) memberCells(cells []store.CellWrite, u pim.UserID, line inbox.Line) []store.CellWrite {
	m := c.members[u]
	cells = append(cells, membershipCell(c, u))
	if !m.Present() && line.Newest != 0 {
		cells = append(cells, lineCell(c.id, u, line))
	}
	switch {
	case line.Invited && m.Invited && line.Newest == m.changed:
		cells = append(cells, inbox.InvitedCell(u, c.id, line.Newest, m.by))
	case m.asked && !m.Invited:
		cells = append(cells, inbox.UninvitedCell(u, c.id, m.changed))
	}
	return cells
}

// knowUntold sets whom of those that tail invites the invitation does not reach. The cells of the memberships say so; if the writer
// died before it wrote them, the users are asked again.
func (l *live) knowUntold(ctx context.Context, s store.Store, tail []pim.Entry) error {
	last := make(map[pim.UserID]*pim.Entry) // that invites the user
	for i := range tail {
		if e := &tail[i]; e.Kind != pim.EntryLeave {
			for _, u := range e.Invited {
				last[u] = e
			}
		}
	}
	if len(last) == 0 {
		return nil
	}
	l.untold = make(map[pim.UserID]bool)
	users := make([]pim.UserID, 0, len(last))
	for u := range last {
		users = append(users, u)
	}
	again := make(map[pim.UserID][]pim.UserID) // by inviter
	for some := range slices.Chunk(users, store.MaxBatch) {
		gets := make([]store.Get, len(some))
		for i, u := range some {
			gets[i] = store.Get{Partition: inbox.Members(l.id), Key: string(u)}
		}
		if err := s.Get(ctx, gets); err != nil {
			return err
		}
		for i, u := range some {
			e, cell := last[u], gets[i].Cell
			if pim.Seq(cell.Version) < e.Seq {
				again[e.Sender] = append(again[e.Sender], u)
				continue
			}
			m, err := inbox.ParseMembership(cell.Value)
			if err != nil {
				return err
			}
			l.untold[u] = m.Untold
		}
	}
	for by, users := range again {
		consents, err := inbox.Consents(ctx, s, by, users)
		if err != nil {
			return err
		}
		for i, u := range users {
			l.untold[u] = consents[i] == inbox.Untold
		}
	}
	return nil
}
