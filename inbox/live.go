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
// messages among the newest 50 entries. It is nil for a user who is told nothing. A group is read
// once for all users, who share Messages if they may read all of them.
func (x *Inbox) Live(ctx context.Context, c pim.ConversationID, users []pim.UserID, screen *Screen) ([]*Receipts, error) {
	told := make([]*Receipts, len(users))
	end := []store.Read{{Log: Entries(c), WithLast: true}}
	if err := x.store.Read(ctx, end); err != nil {
		return nil, err
	}
	newest := end[0].Last
	if a, b, direct := c.DirectUsers(); direct {
		for i, u := range users {
			s, err := x.receiptsSetting(ctx, u)
			if err != nil {
				return nil, err
			}
			if c.Excludes(u) || s.InForce(0) {
				continue
			}
			peer := a
			if a == u {
				peer = b
			}
			r, err := x.directReceipts(ctx, c, peer, newest)
			if err != nil {
				return nil, err
			}
			told[i] = &r
		}
		return told, nil
	}
	all := Membership{Periods: []Period{{From: 1}}}
	all.trim(end[0].Front)
	first := max(end[0].Front, newest-min(newest, maxReceipts)+1)
	more, err := x.messages(ctx, c, &all, max(first, screen.last+1), newest)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(screen.messages, func(m sentMessage) bool { return m.seq < first })
	screen.messages, screen.last = append(kept, more...), newest
	a, err := x.audiences.share(ctx, c, x.audienceRest, func() (audience, error) { return x.audienceOf(ctx, c) })
	if err != nil {
		return nil, err
	}
	receipts := a.receipts(screen.messages)
	for i, u := range users {
		at, ok := slices.BinarySearchFunc(a, u, func(l listener, u pim.UserID) int { return cmp.Compare(l.user, u) })
		if !ok {
			continue
		}
		r := &Receipts{Messages: receipts}
		if unreadable := func(m Receipt) bool { return !a[at].Reads(m.Seq) }; slices.ContainsFunc(receipts, unreadable) {
			r.Messages = slices.DeleteFunc(slices.Clone(receipts), unreadable)
		}
		told[i] = r
	}
	return told, nil
}
