package writers

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// log is a conversation's log at the end of a run. Its state k is that after the entry at
// seq k. It was possible from the moment on at which all entries up to seq k had been sent,
// until an answer, a push or a look at the store told of a later entry.
type log struct {
	id      pim.ConversationID
	entries []pim.Entry
	front   pim.Seq // the entries before it were trimmed; 0: none
	from    []int   // by state
	to      []int   // by state
	groups  []group // by state, of a group
}

// never is later than every moment.
const never = math.MaxInt - 1

// readLog returns the log of c. gone are the entries that may have been trimmed, as they were before.
func readLog(s store.Store, c pim.ConversationID, gone []pim.Entry) (*log, error) {
	l := &log{id: c}
	end := []store.Read{{Log: inbox.Entries(c), WithLast: true}}
	if err := s.Read(context.Background(), end); err != nil {
		return nil, err
	}
	if l.front = end[0].Front; l.front > 1 {
		l.entries = slices.Clone(gone[:min(int(l.front-1), len(gone))])
	}
	for {
		next := pim.Seq(len(l.entries) + 1)
		records, err := store.ReadLog(context.Background(), s, inbox.Entries(c), next, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
		if err != nil || len(records) == 0 {
			return l, err
		}
		for _, data := range records {
			e, err := wire.ParseEntry(c, data)
			if err != nil {
				return nil, err
			}
			if next := pim.Seq(len(l.entries) + 1); e.Seq != next {
				return nil, fmt.Errorf("I3 %s: an entry with the seq %d stands at seq %d", c, e.Seq, next)
			}
			l.entries = append(l.entries, e)
		}
	}
}

// date works out when each state of l was possible. sent returns when an entry was sent first,
// seen when somebody was told of it first.
func (l *log) date(sent, seen func(*pim.Entry) int) {
	n := len(l.entries)
	l.from, l.to = make([]int, n+1), make([]int, n+1)
	l.to[n] = never
	for i := range l.entries {
		l.from[i+1] = max(l.from[i], sent(&l.entries[i]))
	}
	for i := n - 1; i >= 0; i-- {
		l.to[i] = min(l.to[i+1], seen(&l.entries[i]))
	}
}

// possible returns the first and the last state that was possible at some moment from sent
// to ended.
func (l *log) possible(sent, ended int) (first, last int) {
	first, _ = slices.BinarySearch(l.to, sent)
	last, _ = slices.BinarySearch(l.from, ended+1)
	return first, last - 1
}

// told reports whether somebody was told of the last entry of l, so all cells that follow from
// the log are written. It is false if the entry came late, after its request was refused.
func (l *log) told() bool {
	n := len(l.entries)
	return n == 0 || l.to[n-1] != never
}

// seq returns the seq of the entry with a client message ID, 0 if there is none.
func (l *log) seq(id pim.ClientMessageID) pim.Seq {
	return pim.Seq(1 + slices.IndexFunc(l.entries, func(e pim.Entry) bool { return e.ClientID == id }))
}

// refuses returns why l in its state k refuses r: pim.KindUnknown if it takes r. Blocks and the
// positions of read commands are not looked at.
func (l *log) refuses(r *request, k int) pim.Kind {
	if l.id.IsGroup() {
		if kind := l.groups[k].refuses(r, k); kind != 0 {
			return kind
		}
	}
	switch {
	case r.Refers == 0:
		return 0
	case r.Kind == pim.EntryErase && (int(r.Refers) > k || !l.left(r, k, false)):
		return pim.KindNotFound
	case r.Kind == pim.EntryErase:
		return 0
	}
	if int(r.Refers) > k || !slices.Contains(l.readers(r.Refers), r.Sender) {
		return pim.KindNotFound
	}
	target := &l.entries[r.Refers-1]
	if target.Kind != pim.EntryMessage {
		return pim.KindInvalid
	}
	for i := range l.entries[:k] {
		switch e := &l.entries[i]; {
		case e.Kind == pim.EntryRecall && e.Refers == r.Refers, erases(e, target) && !r.Removed:
			return pim.KindNotFound
		}
	}
	owner := l.id.IsGroup() && l.groups[k].owner() == r.Sender
	if r.Kind == pim.EntryEdit && target.Sender != r.Sender || r.Kind == pim.EntryRecall && target.Sender != r.Sender && !owner {
		return pim.KindForbidden
	}
	return 0
}

// left reports whether there is something for r, an erase, to erase in the state k of l. What was
// recalled counts with recalled only: its writer may have died before it was erased.
func (l *log) left(r *request, k int, recalled bool) bool {
	x := &pim.Entry{Kind: pim.EntryErase, Sender: r.Sender, Refers: r.Refers}
	for i := range l.entries[:k] {
		e := &l.entries[i]
		if !erases(x, e) {
			continue
		}
		if !slices.ContainsFunc(l.entries[i:k], func(later pim.Entry) bool {
			target := e.Seq
			if e.Kind == pim.EntryEdit {
				target = e.Refers
			}
			return erases(&later, e) || !recalled && later.Kind == pim.EntryRecall && later.Refers == target
		}) {
			return true
		}
	}
	return false
}

// placeErases gives the answers to erases that do not say where the entry is, because its sender had
// left, what they would say.
func (j *judge) placeErases() {
	for _, r := range j.book.requests {
		l := j.logs[r.conversation]
		seq := l.seq(r.ClientID)
		if r.Kind != pim.EntryErase || seq == 0 || slices.Contains(l.readers(seq), r.Sender) {
			continue
		}
		e := &l.entries[seq-1]
		for _, t := range r.trips {
			if a := &t.told; t.accepted() && a.Seq == 0 {
				a.Seq, a.Anchor, a.Count, a.Server, a.Ahead, a.Order = e.Seq, e.Anchor, e.Count, e.Server, e.Ahead, e.Order
			}
		}
	}
}

// erases reports whether e takes the payload of other.
func erases(e, other *pim.Entry) bool {
	seq := other.Seq
	switch other.Kind {
	case pim.EntryMessage:
	case pim.EntryEdit:
		seq = other.Refers
	default:
		return false
	}
	return e.Kind == pim.EntryErase && e.Sender == other.Sender && seq <= e.Refers
}

// group is everybody who is or was a member of a group.
type group map[pim.UserID]member

type member struct {
	since, place int // when the newest membership began: the seq, and the place in the entry
	left         pim.Seq
}

func (g group) has(u pim.UserID) bool {
	m, ok := g[u]
	return ok && m.left == 0
}

func (g group) present() (n int) {
	for u := range g {
		if g.has(u) {
			n++
		}
	}
	return n
}

// owner is the member whose membership has lasted longest.
func (g group) owner() (owner pim.UserID) {
	for u, m := range g {
		if o := g[owner]; g.has(u) && (owner == "" || m.since < o.since || m.since == o.since && m.place < o.place) {
			owner = u
		}
	}
	return owner
}

// after returns the group after the entry e.
func (g group) after(e *pim.Entry) group {
	if len(e.Members) == 0 {
		return g
	}
	next := maps.Clone(g)
	for i, u := range e.Members {
		m := next[u]
		switch {
		case e.Kind == pim.EntryLeave && g.has(u):
			m.left = e.Seq
		case e.Kind != pim.EntryLeave && !g.has(u):
			m = member{since: int(e.Seq), place: i}
		}
		next[u] = m
	}
	return next
}

// refuses returns why the group, whose log has last entries, refuses r: pim.KindUnknown if it
// takes r.
func (g group) refuses(r *request, last int) pim.Kind {
	if r.Kind == pim.EntryCreate {
		switch {
		case last > 0:
			return pim.KindConflict
		case distinct(append([]pim.UserID{r.Sender}, r.Members...)) > groupMembers:
			return pim.KindTooLarge
		}
		return 0
	}
	m, ever := g[r.Sender]
	switch {
	case r.Kind == pim.EntryErase && ever && m.left != 0 && r.Refers > m.left:
		return pim.KindNotFound
	case r.Kind == pim.EntryErase && ever:
		return 0
	case !g.has(r.Sender):
		return pim.KindNotMember
	}
	named := r.Members
	if len(named) == 0 {
		named = []pim.UserID{r.Sender}
	}
	there := 0
	for _, u := range named {
		if g.has(u) {
			there++
		}
	}
	switch {
	case r.Kind == pim.EntryJoin && there == len(named):
		return pim.KindInvalid
	case r.Kind == pim.EntryJoin && g.present()+len(named)-there > groupMembers:
		return pim.KindTooLarge
	case r.Kind == pim.EntryLeave && slices.ContainsFunc(named, func(u pim.UserID) bool { return u != r.Sender }) && g.owner() != r.Sender:
		return pim.KindForbidden
	case r.Kind == pim.EntryLeave && there == 0:
		return pim.KindInvalid
	}
	return 0
}

// newest returns the newest seq that u may read in a group whose log has last entries. ok is
// false if u never was a member.
func (g group) newest(u pim.UserID, last int) (newest pim.Seq, ok bool) {
	m, ok := g[u]
	if newest = pim.Seq(last); m.left != 0 {
		newest = min(newest, m.left)
	}
	return newest, ok
}

func distinct(users []pim.UserID) int {
	return len(slices.Compact(slices.Sorted(slices.Values(users))))
}

// readers returns who may read the entry at seq.
func (l *log) readers(seq pim.Seq) (readers []pim.UserID) {
	if owner, own := l.id.OwnUser(); own {
		return []pim.UserID{owner}
	}
	if a, b, direct := l.id.DirectUsers(); direct {
		return slices.Compact([]pim.UserID{a, b})
	}
	for _, u := range users {
		if l.groups[seq-1].has(u) || l.groups[seq].has(u) {
			readers = append(readers, u)
		}
	}
	return readers
}
