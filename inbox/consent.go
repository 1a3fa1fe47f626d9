package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Nobody becomes a member of a stranger's group without having agreed. Who adds a user without asking is the user's
// own setting (pim.CommandAdders). All others invite: the user is no member, but has a line in the offline list that
// says so, and reads the entry that invites. So an invitation is told to all devices as everything else is, and stays until the user
// comes, declines, or the group's owner takes it back.
//
// Whoever makes many accounts could fill the lists of others with invitations. So a user has a bounded number of them, and of one
// inviter fewer. What is above does not reach the user, and neither does an invitation of somebody whom the user blocks. The inviter
// is told nothing of that: to whoever asks in vain, all reasons look the same.

// How many invitations wait for one user, at most, and how many of them are of one inviter.
const (
	MaxInvitations   = 100
	MaxInvitationsBy = 10
)

// Invited holds the invitations that have reached a user and wait: key conversation, version the seq of the entry that invites,
// value the inviter. It is there to be counted: what the user is told is in the offline list. After a crash it may
// have one that has ended.
func Invited(u pim.UserID) store.Partition { return store.Partition("invited/" + u) }

// Consent says what becomes of a user who is to be made a member of a group.
type Consent byte

const (
	Adds   Consent = iota // the user becomes a member
	Asks                  // the user is invited
	Untold                // the user is invited, and does not hear of it
)

// consentGets is how many look-ups Consents makes for each user.
const consentGets = 5

// Consents returns what becomes of each of users if adder is to make them members of a group. It tells of every command that
// was acknowledged before the call. Concurrent calls may each find room for one more invitation.
func Consents(ctx context.Context, s store.Store, adder pim.UserID, users []pim.UserID) ([]Consent, error) {
	all := make([]Consent, 0, len(users))
	for len(users) > 0 {
		some := users[:min(len(users), receiptGets/consentGets)]
		users = users[len(some):]
		gets := make([]store.Get, 0, consentGets*len(some))
		for _, u := range some {
			direct := string(pim.Direct(u, adder))
			gets = append(gets,
				store.Get{Partition: Settings(u), Key: entity(pim.CommandAdders, u)},
				store.Get{Partition: Settings(u), Key: entity(pim.CommandBlock, adder)},
				store.Get{Partition: Settings(u), Key: entity(pim.CommandContact, adder)},
				store.Get{Partition: Fresh(u), Key: direct}, // first: a line is in Lines before it is forgotten in Fresh
				store.Get{Partition: Lines(u), Key: direct})
		}
		if err := s.Get(ctx, gets); err != nil {
			return nil, err
		}
		for i, u := range some {
			c, err := consent(gets[consentGets*i:][:consentGets])
			if err == nil && c == Asks {
				c, err = roomToAsk(ctx, s, adder, u)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// consent judges what Consents has looked up for one user.
func consent(g []store.Get) (Consent, error) {
	blocks, err := inForce(&g[1])
	if err != nil || blocks {
		return Untold, err
	}
	adders := pim.AddersKnown
	if said, err := inForce(&g[0]); err != nil {
		return Untold, err
	} else if said {
		set, err := ParseSetting(g[0].Cell)
		if err != nil {
			return Untold, err
		}
		adders = set.Adders
	}
	switch adders {
	case pim.AddersAll:
		return Adds, nil
	case pim.AddersKnown:
	default: // also what a later version knows
		return Asks, nil
	}
	if contact, err := inForce(&g[2]); err != nil || contact {
		return Adds, err
	}
	for _, line := range g[3:5] {
		if line.Cell.Version == 0 {
			continue
		}
		l, err := ParseLine(line.Cell)
		if err != nil {
			return Untold, err
		}
		if l.Own > 0 {
			return Adds, nil
		}
	}
	return Asks, nil
}

// roomToAsk returns Asks if one more invitation by adder may wait for user, else Untold.
func roomToAsk(ctx context.Context, s store.Store, adder, user pim.UserID) (Consent, error) {
	waiting, err := s.List(ctx, Invited(user), "", MaxInvitations)
	if err != nil || len(waiting) == MaxInvitations {
		return Untold, err
	}
	by := 0
	for _, c := range waiting {
		if string(c.Value) == string(adder) {
			by++
		}
	}
	if by >= MaxInvitationsBy {
		return Untold, nil
	}
	return Asks, nil
}

// InvitedCell returns the cell in Invited of an invitation to user into the group c, by the entry of inviter at seq.
func InvitedCell(user pim.UserID, c pim.ConversationID, seq pim.Seq, inviter pim.UserID) store.CellWrite {
	return store.CellWrite{Partition: Invited(user), Cell: store.Cell{Key: string(c), Version: uint64(seq), Value: []byte(inviter)}}
}

// UninvitedCell forgets what InvitedCell has returned for entries up to seq.
func UninvitedCell(user pim.UserID, c pim.ConversationID, seq pim.Seq) store.CellWrite {
	return store.CellWrite{Partition: Invited(user), Cell: store.Cell{Key: string(c), Version: uint64(seq)}, Forget: true}
}
