package conv

import (
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
)

// Whoever would send to everybody creates groups, adds members, or writes to strangers. Each is
// bounded for each user and hour, see limit.Deeds. step asks when nothing else speaks against the request, and
// a batch says in the end whether the entry is in the log. So a request that is refused, for
// whatever reason, or that has its entry already, counts as nothing.

// deeds are what users do to others, of all conversations of these Writers.
type deeds struct {
	*limit.Deeds
	begun time.Time           // their time is what has passed since
	free  map[pim.UserID]bool // whom nothing bounds
}

// newDeeds returns nil if perHour bounds nothing.
func newDeeds(perHour limit.Deed, free []pim.UserID) *deeds {
	if perHour.None() {
		return nil
	}
	d := &deeds{Deeds: limit.NewDeeds(perHour), begun: time.Now(), free: make(map[pim.UserID]bool, len(free))}
	for _, u := range free {
		d.free[u] = true
	}
	return d
}

// deed is one that a batch is to end.
type deed struct {
	limit.Deed
	user pim.UserID
	at   time.Duration
}

// deedOf returns what r counts as, which may be appended. members are those whose membership it
// changes.
func (c *conversation) deedOf(r *Request, members []pim.UserID) (d limit.Deed) {
	switch {
	case r.Kind == pim.EntryCreate:
		d.Groups, d.Members = 1, int32(len(members)-1)
	case r.Kind == pim.EntryJoin:
		d.Members = int32(len(members))
	case c.last == 0 && len(c.present) == 2 && !c.id.IsGroup(): // the first to a user, and not to oneself
		d.Strangers = 1
	}
	return d
}

// longestDeedWait is the longest time after which a client is told to send again. It sends nothing
// else meanwhile: it takes the time as the server's, not as its user's.
const longestDeedWait = 10 * time.Second

// begin asks whether the sender of r may do d at the time at, and returns what the batch is to end;
// nil if r counts as nothing.
func (s *deeds) begin(r *Request, d limit.Deed, at time.Time) (*deed, error) {
	if s == nil || d.None() || s.free[r.Sender] {
		return nil, nil
	}
	begun := &deed{d, r.Sender, at.Sub(s.begun)}
	v := s.Begin(begun.at, r.Sender, d)
	if !v.Refused() {
		return begun, nil
	}
	return nil, &pim.Error{
		Kind: v.Reason.Kind(), Text: fmt.Sprintf("%s; it is possible again in %s", v.Reason.Text(), v.After.Round(time.Second)),
		RetryAfter: min(v.After, longestDeedWait), Err: reason(v.Reason.String()),
	}
}

// endDeeds ends what the entries of b have begun. err is why its append has failed, or nil.
func (b *batch) endDeeds(err error) {
	for _, d := range b.deeds {
		b.conv.deeds.End(d.at, d.user, d.Deed, err == nil)
	}
	b.deeds = nil
}

// final reports whether a request that is refused with err is not sent again.
func final(err error) bool { return !pim.KindOf(err).Retryable() }
