package limit

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// A Deed is what one request of a user counts as. The zero Deed counts as nothing.
type Deed struct {
	Groups    int32 // groups that it creates
	Members   int32 // users whom it adds to groups, others than the one who creates them
	Strangers int32 // users to whom it writes first
}

// None reports whether d counts as nothing.
func (d Deed) None() bool { return d == Deed{} }

// Deeds bound what each user does in an hour. A whole hour's worth may come at once. Its methods may
// be called at the same time. now is a monotonic time.
//
// A deed begins before it is known whether it will be done. Until it ends it takes room, so that
// no user does more by asking for much at once. A deed that is not done leaves no trace.
type Deeds struct {
	seed maphash.Seed

	mu        sync.Mutex
	groups    sketch
	members   sketch
	strangers sketch
	begun     map[pim.UserID]Deed // of users who have begun something that has not ended
}

// NewDeeds returns Deeds that let each user do perHour in an hour; 0 is no bound. Each bound takes
// 256 KiB, and what has begun some bytes for its user.
func NewDeeds(perHour Deed) *Deeds {
	hourly := func(n int32) sketch {
		if n <= 0 {
			return sketch{}
		}
		every := time.Hour / time.Duration(n)
		return newSketch(pace{every: every, burst: every * time.Duration(n)})
	}
	return &Deeds{
		seed: maphash.MakeSeed(), begun: make(map[pim.UserID]Deed),
		groups: hourly(perHour.Groups), members: hourly(perHour.Members), strangers: hourly(perHour.Strangers),
	}
}

// Begin asks whether user may do d, which counts until End. If the verdict refuses, nothing counts
// and there is no End. A deed that is more than an hour's worth by itself may be done when
// nothing else counts.
func (s *Deeds) Begin(now time.Duration, user pim.UserID, d Deed) Verdict {
	u := maphash.String(s.seed, string(user))
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := s.begun[user]
	v := Verdict{}
	for _, b := range []struct {
		*sketch
		begun, n int32
		reason   Reason
	}{
		{&s.groups, begun.Groups, d.Groups, GroupsCreated},
		{&s.members, begun.Members, d.Members, MembersAdded},
		{&s.strangers, begun.Strangers, d.Strangers, Strangers},
	} {
		if b.n == 0 {
			continue
		}
		if wait := b.waitOf(u, now, int(b.begun), int(b.n)); wait > v.After {
			v = Verdict{b.reason, wait}
		}
	}
	if !v.Refused() {
		s.begun[user] = Deed{begun.Groups + d.Groups, begun.Members + d.Members, begun.Strangers + d.Strangers}
	}
	return v
}

// End ends a deed of user that began at the time at, with a verdict that did not refuse. done says
// that it was done. A deed of which that is not known was not.
func (s *Deeds) End(at time.Duration, user pim.UserID, d Deed, done bool) {
	u := maphash.String(s.seed, string(user))
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begun[user]
	if b = (Deed{b.Groups - d.Groups, b.Members - d.Members, b.Strangers - d.Strangers}); b.None() {
		delete(s.begun, user)
	} else {
		s.begun[user] = b
	}
	if done {
		s.groups.chargeOf(u, at, int(d.Groups))
		s.members.chargeOf(u, at, int(d.Members))
		s.strangers.chargeOf(u, at, int(d.Strangers))
	}
}
