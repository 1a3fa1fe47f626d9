package gateway

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// All connections together look at nodeLooks subjects at most, each counted as often as it is looked
// at. A user has a share of that, of a size that follows from what the others look at: when all of it
// is taken, a look of the user who has the most ends for one of a user who has less. So however many
// looks some users hold, everybody gets as many as they, up to one less, and a person with one screen
// loses nothing to those who look at much. What ends is the last subject that the device has named.
// The device is told with a PIMError to its PIMLook.

// errLooks is the refusal of a PIMLook of which some is not looked at.
var errLooks = pim.Errorf(pim.KindOverloaded, "some of it is not looked at: a user looks at %d conversations and users at most, and all users at %d", userLooks, nodeLooks)

// lookTotals counts what all users look at. The zero value is ready for use. The looks' mu guards it.
type lookTotals struct {
	bound int // nodeLooks, or what a test has set
	all   int
	users map[pim.UserID]*userLooking
	ranks [userLooks + 1][]*userLooking // the users who look at so many, without those who look at nothing
	most  int                           // that a user looks at
}

// userLooking is what the connections of a user look at, together. It is there as long as one of them
// has a look.
type userLooking struct {
	totals *lookTotals
	user   pim.UserID
	conns  []*conn // that have a look
	looks  int
	place  int // in totals.ranks[looks]
}

// of returns what user looks at.
func (t *lookTotals) of(user pim.UserID) *userLooking {
	u := t.users[user]
	if u == nil {
		if t.users == nil {
			t.users = make(map[pim.UserID]*userLooking)
		}
		if t.bound == 0 {
			t.bound = nodeLooks
		}
		u = &userLooking{totals: t, user: user}
		t.users[user] = u
	}
	return u
}

// gone takes c out of the connections of u that have a look.
func (t *lookTotals) gone(u *userLooking, c *conn) {
	u.conns = slices.DeleteFunc(u.conns, func(o *conn) bool { return o == c })
	if len(u.conns) == 0 {
		delete(t.users, u.user)
	}
}

// count notes that u looks at n subjects more.
func (u *userLooking) count(n int) {
	t := u.totals
	if u.looks > 0 {
		rank := t.ranks[u.looks]
		last := rank[len(rank)-1]
		rank[u.place], last.place = last, u.place
		rank[len(rank)-1] = nil
		t.ranks[u.looks] = rank[:len(rank)-1]
	}
	u.looks += n
	t.all += n
	if u.looks > 0 {
		u.place = len(t.ranks[u.looks])
		t.ranks[u.looks] = append(t.ranks[u.looks], u)
	}
	t.most = max(t.most, u.looks)
	for t.most > 0 && len(t.ranks[t.most]) == 0 {
		t.most--
	}
}

// gaveWay is a connection some of whose look has ended, and the ID of its PIMLook.
type gaveWay struct {
	conn    *conn
	request uint64
}

// makeRoom reports whether u may look at one subject more. If another user has to give way for that,
// makeRoom ends a look of the one who has the most, and notes in r which connection is to be told.
// The caller holds l.mu.
func (l *looks) makeRoom(u *userLooking, r *looked) bool {
	t := &l.totals
	switch {
	case u.looks >= userLooks:
		return false
	case t.all < t.bound:
		return true
	case t.most <= u.looks+1: // then the other one would have less than u
		return false
	}
	other := t.ranks[t.most][0]
	c := slices.MaxFunc(other.conns, func(a, b *conn) int { return len(l.looking[a].ids) - len(l.looking[b].ids) })
	k := l.looking[c]
	last := len(k.ids) - 1
	id := k.ids[last]
	k.ids = k.ids[:last]
	other.count(-1)
	l.leave(c, id)
	if !k.cut {
		k.cut = true
		r.gaveWay = append(r.gaveWay, gaveWay{c, k.request})
	}
	return true
}

// tellGaveWay tells connections that some of what they look at has ended. One that is slow is not told.
func (g *Gateway) tellGaveWay(some []gaveWay) {
	for _, w := range some {
		g.Metrics.dropLooks.Inc()
		if w.request == 0 {
			continue
		}
		m := g.refusal(errLooks)
		m.RequestId = w.request
		data := wire.Append(nil, m)
		g.sendAll([]*conn{w.conn}, func(*conn) []byte { return data }, func(*conn) {})
	}
}
