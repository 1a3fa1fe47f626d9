package inbox

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// When a user was connected last is one cell, which is written relaxed and seldom: it may be lost
// and is early by up to seenEvery, which nobody misses. All times are full multiples of seenEvery,
// stored or not, so what is told of a user does not go back to what is stored.
const (
	seenEvery  = pim.Millis(60_000)
	seenWaits  = 1 << 14 // users that wait for a Flush, at most
	seenAtOnce = 512     // users whose cells are looked at together
	seenKey    = "seen"
)

// Seen holds when a user was connected last: one cell, version the time.
func Seen(u pim.UserID) store.Partition { return store.Partition("seen/" + u) }

// Seen notes that user is or was connected at the time at. A later Flush stores it, unless it is
// stored already, or the user's no-presence is in force. It waits for nothing: above
// seenWaits users it is dropped.
func (a *Acks) Seen(user pim.UserID, at pim.Millis) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, waits := a.seen[user]; waits || len(a.seen) < seenWaits {
		if a.seen == nil {
			a.seen = make(map[pim.UserID]pim.Millis)
		}
		a.seen[user] = max(a.seen[user], at-at%seenEvery)
	}
}

// LastSeen returns the time that Seen was given last of user, if no Flush has stored it yet; else 0.
// Whoever calls it before Presence misses no time.
func (a *Acks) LastSeen(user pim.UserID) pim.Millis {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.seen[user], a.saving[user])
}

// flushSeen stores when users were connected. What fails is lost, and is no reason to lose the rest,
// unless it is a commit. flushSeen returns the first error.
func (a *Acks) flushSeen(ctx context.Context, seen map[pim.UserID]pim.Millis) (failed error) {
	for users := range slices.Chunk(slices.Sorted(maps.Keys(seen)), seenAtOnce) {
		gets := make([]store.Get, 0, 2*len(users))
		for _, u := range users {
			gets = append(gets, store.Get{Partition: Seen(u), Key: seenKey}, store.Get{Partition: Settings(u), Key: entity(pim.CommandNoPresence, u)})
		}
		_ = a.store.Get(ctx, gets) // each has its own error
		var w store.Write
		for i, u := range users {
			hides, err := inForce(&gets[2*i+1])
			if err = cmp.Or(gets[2*i].Err, gets[2*i+1].Err, err); err != nil {
				failed = cmp.Or(failed, err)
				continue
			}
			if at := seen[u]; !hides && at > pim.Millis(gets[2*i].Cell.Version) {
				w.Cells = append(w.Cells, store.CellWrite{Partition: Seen(u), Cell: store.Cell{Key: seenKey, Version: uint64(at)}})
			}
		}
		if len(w.Cells) == 0 {
			continue
		}
		if err := store.Commit(ctx, a.store, []*store.Write{&w}, store.Relaxed); err != nil {
			return cmp.Or(failed, err)
		}
	}
	return failed
}

// inForce reports whether the setting that g has looked up is in force.
func inForce(g *store.Get) (bool, error) {
	if g.Cell.Version == 0 {
		return false, nil
	}
	s, err := ParseSetting(g.Cell)
	return s.InForce(0), err
}

// lookerGets is how many look-ups Presence makes for one looker at first, and lookersAtOnce for how
// many lookers together.
const (
	lookerGets    = 5
	lookersAtOnce = receiptGets / lookerGets
)

// Presence returns when user was connected last, 0 if that is not known, and which of lookers may
// know about user at all. These are the contacts of user and those to whom user has written
// directly, so that nobody can watch a stranger. Neither may block the other, nor have set
// no-presence.
func (x *Inbox) Presence(ctx context.Context, user pim.UserID, lookers []pim.UserID) (seen pim.Millis, sees []bool, err error) {
	sees = make([]bool, len(lookers))
	gets := []store.Get{{Partition: Settings(user), Key: entity(pim.CommandNoPresence, user)}, {Partition: Seen(user), Key: seenKey}}
	if err := x.store.Get(ctx, gets); err != nil {
		return 0, nil, err
	}
	if hides, err := inForce(&gets[0]); err != nil || hides {
		return 0, sees, err
	}
	seen = pim.Millis(gets[1].Cell.Version)
	for at := 0; at < len(lookers); at += lookersAtOnce {
		end := min(at+lookersAtOnce, len(lookers))
		if err := x.maySee(ctx, user, lookers[at:end], sees[at:end]); err != nil {
			return 0, nil, err
		}
	}
	return seen, sees, nil
}

// maySee sets in sees which of lookers may know about user, who has not set no-presence.
func (x *Inbox) maySee(ctx context.Context, user pim.UserID, lookers []pim.UserID, sees []bool) error {
	gets := make([]store.Get, 0, lookerGets*len(lookers))
	for _, l := range lookers {
		gets = append(gets,
			store.Get{Partition: Settings(l), Key: entity(pim.CommandNoPresence, l)},
			store.Get{Partition: Settings(l), Key: entity(pim.CommandBlock, user)},
			store.Get{Partition: Settings(user), Key: entity(pim.CommandBlock, l)},
			store.Get{Partition: Settings(user), Key: entity(pim.CommandContact, l)},
			store.Get{Partition: Fresh(user), Key: string(pim.Direct(user, l))})
	}
	if err := x.store.Get(ctx, gets); err != nil {
		return err
	}
	var rest []store.Get // the lines that are not in Fresh
	var of []int
	for i, l := range lookers {
		g := gets[lookerGets*i:][:lookerGets]
		var set [4]bool
		for n := range set {
			var err error
			if set[n], err = inForce(&g[n]); err != nil {
				return err
			}
		}
		switch line := g[4].Cell; {
		case set[0] || set[1] || set[2]:
		case set[3]:
			sees[i] = true
		case line.Version != 0:
			l, err := ParseLine(line)
			if err != nil {
				return err
			}
			sees[i] = l.Own > 0
		default: // a line is in Lines before it is forgotten in Fresh
			rest, of = append(rest, store.Get{Partition: Lines(user), Key: string(pim.Direct(user, l))}), append(of, i)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	if err := x.store.Get(ctx, rest); err != nil {
		return err
	}
	for n, i := range of {
		if rest[n].Cell.Version == 0 {
			continue
		}
		l, err := ParseLine(rest[n].Cell)
		if err != nil {
			return err
		}
		sees[i] = l.Own > 0
	}
	return nil
}

// entity returns the name of a user's setting about another.
func entity(kind pim.CommandKind, about pim.UserID) string {
	c := pim.Command{Kind: kind, Subject: string(about)}
	return c.Entity()
}

// Typing returns which of users, who write in c or look at it, are told who else writes there and
// may be named: its members, without those who have set no-presence. In a direct conversation that
// is nobody if one of its users blocks the other.
func (x *Inbox) Typing(ctx context.Context, c pim.ConversationID, users []pim.UserID) ([]bool, error) {
	may := make([]bool, len(users))
	if a, b, direct := c.DirectUsers(); direct {
		gets := []store.Get{
			{Partition: Settings(a), Key: entity(pim.CommandBlock, b)}, {Partition: Settings(b), Key: entity(pim.CommandBlock, a)},
		}
		if err := x.store.Get(ctx, gets); err != nil {
			return nil, err
		}
		for i := range gets {
			if blocks, err := inForce(&gets[i]); err != nil || blocks && a != b {
				return may, err
			}
		}
	}
	const each = 2
	for at := 0; at < len(users); at += receiptGets / each {
		some := users[at:min(at+receiptGets/each, len(users))]
		gets := make([]store.Get, 0, each*len(some))
		for _, u := range some {
			gets = append(gets, store.Get{Partition: Settings(u), Key: entity(pim.CommandNoPresence, u)}, store.Get{Partition: Members(c), Key: string(u)})
		}
		if err := x.store.Get(ctx, gets); err != nil {
			return nil, err
		}
		for i, u := range some {
			hides, err := inForce(&gets[each*i])
			if err != nil {
				return nil, err
			}
			member := !c.Excludes(u)
			if c.IsGroup() {
				if member = gets[each*i+1].Cell.Version != 0; member {
					m, err := ParseMembership(gets[each*i+1].Cell.Value)
					if err != nil {
						return nil, err
					}
					member = m.Present()
				}
			}
			may[at+i] = member && !hides
		}
	}
	return may, nil
}
