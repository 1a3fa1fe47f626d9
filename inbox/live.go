package inbox

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Screen is what Live remembers of a group's newest messages, so that a call reads only those that
// came since the one before. The zero value is empty.
type Screen struct {
	messages []sentMessage // among the newest 50 entries up to last
	last     pim.Seq
}

// Live returns how far others have read c, for each of users: as Receipts does, of a group of the
// messages among the newest 50 entries. It is nil for a user who is told nothing; members says who
// is a member nevertheless. A group is read once for all users, who share Messages if they may read
// all of them. What it returns may not be durable yet: the caller tells nobody before Barrier.
func (x *Inbox) Live(ctx context.Context, c pim.ConversationID, users []pim.UserID, screen *Screen) (told []*Receipts, members []bool, err error) {
	told, members = make([]*Receipts, len(users)), make([]bool, len(users))
	end := []store.Read{{Log: Entries(c), WithLast: true}}
	if err := x.store.Read(ctx, end); err != nil {
		return nil, nil, err
	}
	newest := end[0].Last
	if a, b, direct := c.DirectUsers(); direct {
		for i, u := range users {
			s, err := x.receiptsSetting(ctx, u)
			if err != nil {
				return nil, nil, err
			}
			if members[i] = !c.Excludes(u); !members[i] || s.InForce(0) {
				continue
			}
			peer := a
			if a == u {
				peer = b
			}
			r, err := x.directReceipts(ctx, c, peer, newest)
			if err != nil {
				return nil, nil, err
			}
			told[i] = &r
		}
		return told, members, nil
	}
	all := Membership{Periods: []Period{{From: 1}}}
	all.trim(end[0].Front)
	first := max(end[0].Front, newest-min(newest, maxReceipts)+1)
	more, err := x.messages(ctx, c, &all, max(first, screen.last+1), newest)
	if err != nil {
		return nil, nil, err
	}
	kept := slices.DeleteFunc(screen.messages, func(m sentMessage) bool { return m.seq < first })
	screen.messages, screen.last = append(kept, more...), newest
	a, err := x.audiences.share(ctx, c, x.audienceRest, func() (audience, error) { return x.audienceOf(ctx, c, newest) })
	if err != nil {
		return nil, nil, err
	}
	receipts := a.receipts(screen.messages)
	var hidden []store.Get // memberships of users who give no receipts, or are no members
	var of []int
	for i, u := range users {
		at, ok := slices.BinarySearchFunc(a, u, func(l listener, u pim.UserID) int { return cmp.Compare(l.user, u) })
		if members[i] = ok; !ok {
			hidden = append(hidden, store.Get{Partition: Members(c), Key: string(u)})
			of = append(of, i)
			continue
		}
		r := &Receipts{Messages: receipts}
		if unreadable := func(m Receipt) bool { return !a[at].Reads(m.Seq) }; slices.ContainsFunc(receipts, unreadable) {
			r.Messages = slices.DeleteFunc(slices.Clone(receipts), unreadable)
		}
		told[i] = r
	}
	if len(hidden) == 0 {
		return told, members, nil
	}
	for some := hidden; len(some) > 0; some = some[min(len(some), receiptGets):] {
		if err := x.store.Get(ctx, some[:min(len(some), receiptGets)]); err != nil {
			return nil, nil, err
		}
	}
	for n, i := range of {
		if cell := hidden[n].Cell; cell.Version != 0 {
			m, err := ParseMembership(cell.Value)
			if err != nil {
				return nil, nil, err
			}
			members[i] = m.Present()
		}
	}
	return told, members, nil
}
