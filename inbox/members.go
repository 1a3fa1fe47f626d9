package inbox

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// membersPage is how many members are on a page: so many entries are read for the times.
const membersPage = 250

// MembersRequest asks who is in a group, see PIMMembersReq.
type MembersRequest struct {
	Conversation pim.ConversationID
	After        pim.UserID // the last one of the page before; empty for the first page
}

// MembersPage is a page of the present members of a group.
type MembersPage struct {
	Members []Member // ascending by user
	Owner   pim.UserID
	Next    pim.UserID // empty: this was the last page
}

// Member is one who is in a group.
type Member struct {
	User  pim.UserID
	Since pim.Seq    // the create or join that made the user a member
	At    pim.Millis // when that was; 0 if the entry was trimmed
}

// Members returns who is in a group, and durably so. Every present member may ask, and is told of all,
// also of those who give no receipts and of entries from before the asking user's own time. Errors:
// KindNotMember also if the user has left; KindInvalid if the conversation is no group; and the store's.
func (x *Inbox) Members(ctx context.Context, user pim.UserID, req MembersRequest) (MembersPage, error) {
	p, err := x.members(ctx, user, req)
	if err == nil {
		err = x.Barrier(ctx)
	}
	if err != nil {
		return MembersPage{}, err
	}
	return p, nil
}

func (x *Inbox) members(ctx context.Context, user pim.UserID, req MembersRequest) (p MembersPage, err error) {
	c := req.Conversation
	if err := c.Validate(); err != nil {
		return p, err
	}
	if !c.IsGroup() {
		return p, pim.Errorf(pim.KindInvalid, "%s is no group", c)
	}
	newest, _, m, err := x.readable(ctx, user, c)
	switch {
	case err != nil:
		return p, err
	case !m.Present():
		return p, notMember(user, c)
	}
	k, err := x.crowdOf(ctx, c, newest)
	if err != nil {
		return p, err
	}
	if p.Owner, err = x.owner(ctx, c, k.members); err != nil {
		return p, err
	}
	rest := k.members
	for len(rest) > 0 && rest[0].user <= req.After {
		rest = rest[1:]
	}
	if len(rest) > membersPage {
		rest = rest[:membersPage]
		p.Next = rest[membersPage-1].user
	}
	for i := range rest {
		p.Members = append(p.Members, Member{User: rest[i].user, Since: rest[i].Since()})
	}
	return p, x.dates(ctx, c, p.Members)
}

// Since returns the seq of the entry that began the membership. The user must be present.
func (m *Membership) Since() pim.Seq { return m.Periods[len(m.Periods)-1].From }

// dates sets since when all are members. It reads each entry once.
func (x *Inbox) dates(ctx context.Context, c pim.ConversationID, all []Member) error {
	var seqs []pim.Seq
	for i := range all {
		seqs = append(seqs, all[i].Since)
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	reads := make([]store.Read, len(seqs))
	for i, seq := range seqs {
		reads[i] = store.Read{Log: Entries(c), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: 1}}
	}
	if err := x.store.Read(ctx, reads); err != nil {
		return err
	}
	at := make(map[pim.Seq]pim.Millis, len(seqs))
	for i := range reads {
		if len(reads[i].Records) == 0 {
			continue // it was trimmed
		}
		e, err := wire.ParseEntry(c, reads[i].Records[0])
		if err != nil {
			return err
		}
		at[seqs[i]] = e.Time()
	}
	for i := range all {
		all[i].At = at[all[i].Since]
	}
	return nil
}

// owner returns the owner of the group c with these present members, see package conv: the one whose
// membership has lasted longest, and of several the one whom their entry names first.
func (x *Inbox) owner(ctx context.Context, c pim.ConversationID, present audience) (pim.UserID, error) {
	var eldest []*listener
	for i := range present {
		l := &present[i]
		if len(eldest) > 0 && l.Since() < eldest[0].Since() {
			eldest = eldest[:0]
		}
		if len(eldest) == 0 || l.Since() == eldest[0].Since() {
			eldest = append(eldest, l)
		}
	}
	switch len(eldest) {
	case 0:
		return "", nil
	case 1:
		return eldest[0].user, nil
	}
	named, err := Named(ctx, x.store, c, eldest[0].Since())
	if err != nil {
		return "", err
	}
	for _, u := range named {
		if slices.ContainsFunc(eldest, func(l *listener) bool { return l.user == u }) {
			return u, nil
		}
	}
	for _, l := range eldest { // nothing says the order any more: the maker, else the first by name
		if l.Maker {
			return l.user, nil
		}
	}
	return eldest[0].user, nil
}

// Named returns the users whom the entry at seq of c made members, in its order. It returns nil if the
// entry was trimmed and the cell with its users (Places) is not there.
func Named(ctx context.Context, s store.Store, c pim.ConversationID, seq pim.Seq) (named []pim.UserID, err error) {
	reads := []store.Read{{Log: Entries(c), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: 1}}}
	if err := s.Read(ctx, reads); err != nil {
		return nil, err
	}
	if len(reads[0].Records) > 0 {
		e, err := wire.ParseEntry(c, reads[0].Records[0])
		return e.Members, err
	}
	cell, ok, err := store.Lookup(ctx, s, Places(c), PlacesKey(seq))
	if err != nil || !ok {
		return nil, err
	}
	for b := cell.Value; len(b) > 0; {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, pim.Errorf(pim.KindCorrupt, "places of %s at seq %d with the value %x", c, seq, cell.Value)
		}
		named = append(named, pim.UserID(b[k:k+int(n)]))
		b = b[k+int(n):]
	}
	return named, nil
}

// PlacesKey is the key in Places of those whom the entry at seq made members.
func PlacesKey(seq pim.Seq) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(seq)))
}
