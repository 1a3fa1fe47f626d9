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
//
// What is stored for a user in a day is bounded as well, see limit.Disk. It is asked in the same place, and a batch counts its
// entries when they are in the log. What takes something away is never refused for it.

// deeds are what users do to others, of all conversations of these Writers.
type deeds struct {
	*limit.Deeds                     // nil: not bounded
	disk         *limit.Disk         // nil: not bounded
	begun        time.Time           // their time is what has passed since
	free         map[pim.UserID]bool // whom nothing bounds
}

// newDeeds returns nil if perHour and bytes, those of a day, bound nothing.
func newDeeds(perHour limit.Deed, bytes int, free []pim.UserID) *deeds {
	if perHour.None() && bytes == 0 {
		return nil
	}
	d := &deeds{disk: limit.NewDisk(bytes), begun: time.Now(), free: make(map[pim.UserID]bool, len(free))}
	if !perHour.None() {
		d.Deeds = limit.NewDeeds(perHour)
	}
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

// deedOf returns what r counts as, which may be appended. users is how many become members by it, or are
// invited. Who takes an invitation adds nobody.
func (c *conversation) deedOf(r *Request, users int) (d limit.Deed) {
	switch {
	case r.Kind == pim.EntryCreate:
		d.Groups, d.Members = 1, int32(users-1)
	case r.Kind == pim.EntryJoin && !c.members[r.Sender].Invited:
		d.Members = int32(users)
	case c.last == 0 && len(c.present) == 2 && !c.id.IsGroup(): // the first to a user, and not to oneself
		d.Strangers = 1
	}
	return d
}

// longestDeedWait is the longest time after which a client is told to send again. It sends nothing else to that conversation
// meanwhile, and one of an earlier version nothing to anybody. It gives a message up after three minutes.
const longestDeedWait = time.Minute

// begin asks whether the sender of r may do d at the time at, and returns what the batch is to end;
// nil if r counts as nothing.
func (s *deeds) begin(r *Request, d limit.Deed, at time.Time) (*deed, error) {
	if s == nil {
		return nil, nil
	}
	if v := s.disk.Ask(at.Sub(s.begun), r.Sender); v.Refused() && !takesAway(r.Kind) && !s.free[r.Sender] {
		return nil, refusal(v)
	}
	if s.Deeds == nil || d.None() || s.free[r.Sender] {
		return nil, nil
	}
	begun := &deed{d, r.Sender, at.Sub(s.begun)}
	v := s.Begin(begun.at, r.Sender, d)
	if !v.Refused() {
		return begun, nil
	}
	return nil, refusal(v)
}

// refusal returns v as the error of a request, which may be sent again.
func refusal(v limit.Verdict) error {
	return &pim.Error{
		Kind: v.Reason.Kind(), Text: fmt.Sprintf("%s; it is possible again in %s", v.Reason.Text(), v.After.Round(time.Second)),
		RetryAfter: min(v.After, longestDeedWait), Err: reason(v.Reason.String()),
	}
}

// takesAway reports whether an entry of the kind takes something away: what a user has written, or the user.
func takesAway(k pim.EntryKind) bool {
	return k == pim.EntryLeave || k == pim.EntryRecall || k == pim.EntryErase
}

// endDeeds ends what the entries of b have begun, and counts their bytes. err is why its append has failed, or nil.
func (b *batch) endDeeds(err error) {
	for _, d := range b.deeds {
		b.conv.deeds.End(d.at, d.user, d.Deed, err == nil)
	}
	b.deeds = nil
	s := b.conv.deeds
	if s == nil || s.disk == nil || err != nil {
		return
	}
	for n := 0; n < len(b.entries); {
		from, bytes := b.entries[n].Sender, 0
		for ; n < len(b.entries) && b.entries[n].Sender == from; n++ {
			bytes += len(b.encoded[n].Data)
		}
		if !s.free[from] {
			s.disk.Add(b.begun.Sub(s.begun), from, bytes)
		}
	}
}

// final reports whether a request that is refused with err is not sent again.
func final(err error) bool { return !pim.KindOf(err).Retryable() }
