package inbox

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// Who the members of a group are takes a list of all who ever were members. Of a large one they are
// kept in memory for the next audience: the entries that have come since say who has come or gone.

const (
	crowdFrom    = 1000      // the members of a group that has had so many are kept
	crowdsKept   = 1 << 16   // members that are kept, of all groups together
	crowdEntries = 512       // entries since, of which more are not read: then the members are listed again
	crowdBytes   = 256 << 10 // bytes of these entries, likewise
	// crowdLasts is how long members are kept. An engine may show an entry before the cells that
	// follow from it, so a list may lack a change although the entry is before its end.
	crowdLasts = 10 * time.Minute
)

// crowd are the present members of a group.
type crowd struct {
	members audience  // how far they have read is left out; nobody changes the slice any more
	many    bool      // far more have been members
	last    pim.Seq   // the entry up to which members has who has come and gone
	until   time.Time // when members is listed again in any case
}

// crowds are those that are kept. The zero value is ready for use, and safe for concurrent use.
type crowds struct {
	mu      sync.Mutex
	of      map[pim.ConversationID]crowd
	members int // of all
}

func (s *crowds) get(c pim.ConversationID) (crowd, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.of[c]
	return k, ok
}

// keep keeps k for the group c. If there is no room for it, all others are forgotten.
func (s *crowds) keep(c pim.ConversationID, k crowd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members += len(k.members) - len(s.of[c].members)
	if s.of == nil || s.members > crowdsKept {
		s.of, s.members = make(map[pim.ConversationID]crowd), len(k.members)
	}
	s.of[c] = k
}

// crowdOf returns the members of the group c, which has had an entry at seq before.
func (x *Inbox) crowdOf(ctx context.Context, c pim.ConversationID, seq pim.Seq) (crowd, error) {
	if k, ok := x.crowds.get(c); ok && time.Now().Before(k.until) {
		since := []store.Read{{
			Log: Entries(c), From: k.last + 1, Limit: store.Limit{Records: crowdEntries, Bytes: crowdBytes}, WithLast: true,
		}}
		if err := x.store.Read(ctx, since); err != nil {
			return crowd{}, err
		}
		seq = since[0].Last
		changed, all, err := k.changed(c, &since[0])
		if err != nil {
			return crowd{}, err
		}
		if all {
			if k.members, err = x.change(ctx, c, k.members, changed); err != nil {
				return crowd{}, err
			}
			if seq != k.last {
				k.last = seq
				x.crowds.keep(c, k)
			}
			return k, nil
		}
	}
	k := crowd{last: seq, until: time.Now().Add(crowdLasts)}
	all := 0
	err := x.listAll(ctx, Members(c), func(cell *store.Cell) error {
		all++
		if !present(cell.Value) {
			return nil
		}
		m, err := ParseMembership(cell.Value)
		k.members = append(k.members, listener{Membership: m, user: pim.UserID(cell.Key)})
		return err
	})
	if err != nil {
		return crowd{}, err
	}
	k.many = all > fewPresent*len(k.members)
	if all >= crowdFrom {
		k.members = slices.Clip(k.members)
		x.crowds.keep(c, k)
	}
	return k, nil
}

// changed returns who has come or gone with the entries of since, a Read of those of c behind k.last.
// all says that these are all who have.
func (k *crowd) changed(c pim.ConversationID, since *store.Read) (users []pim.UserID, all bool, err error) {
	if since.Last < k.last || uint64(len(since.Records)) < uint64(since.Last-k.last) {
		return nil, false, nil
	}
	for _, r := range since.Records {
		e, err := wire.ParseEntry(c, r)
		if err != nil {
			return nil, false, err
		}
		switch e.Kind {
		case pim.EntryMessage, pim.EntryEdit, pim.EntryRecall, pim.EntryReaction, pim.EntryPin, pim.EntryErase, pim.EntryRetain:
		case pim.EntryJoin, pim.EntryLeave:
			users = append(users, e.Members...)
		default:
			return nil, false, nil
		}
	}
	return users, len(users) <= receiptGets, nil
}

// change returns members, which it leaves as they are, with the present memberships of users.
func (x *Inbox) change(ctx context.Context, c pim.ConversationID, members audience, users []pim.UserID) (audience, error) {
	if len(users) == 0 {
		return members, nil
	}
	gets := make([]store.Get, len(users))
	for i, u := range users {
		gets[i] = store.Get{Partition: Members(c), Key: string(u)}
	}
	if err := x.store.Get(ctx, gets); err != nil {
		return nil, err
	}
	members = slices.Clone(members)
	for i, u := range users {
		at, found := slices.BinarySearchFunc(members, u, func(l listener, u pim.UserID) int { return cmp.Compare(l.user, u) })
		if !present(gets[i].Cell.Value) {
			if found {
				members = slices.Delete(members, at, at+1)
			}
			continue
		}
		m, err := ParseMembership(gets[i].Cell.Value)
		if err != nil {
			return nil, err
		}
		if !found {
			members = slices.Insert(members, at, listener{})
		}
		members[at] = listener{Membership: m, user: u}
	}
	return members, nil
}
