package limit

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// Of deeds that begin and end in any order, those that were done are at most an hour's worth at once and the
// rate, for each user; and no more are refused than that needs. Deeds that are refused, or not
// done, change nothing.
func TestDeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 6
		s := NewDeeds(Deed{Strangers: most})
		type under struct {
			user pim.UserID
			at   time.Duration
		}
		var open []under
		whole := map[pim.UserID]time.Duration{} // by what was done, as in the generic cell rate algorithm
		now := time.Duration(0)
		one := Deed{Strangers: 1}
		const every = time.Hour / most
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += time.Duration(rapid.SampledFrom([]int{0, 0, 1, 60, 700}).Draw(t, "seconds")) * time.Second
			if len(open) > 0 && rapid.Bool().Draw(t, "end") {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				u, done := open[i], rapid.Bool().Draw(t, "done")
				open = append(open[:i], open[i+1:]...)
				if s.End(u.at, u.user, one, done); done {
					whole[u.user] = max(whole[u.user], u.at) + every
				}
				continue
			}
			u := pim.UserID(rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "user"))
			begun := 0
			for _, o := range open {
				if o.user == u {
					begun++
				}
			}
			wait := max(whole[u], now) + time.Duration(begun+1)*every - now - time.Hour
			v := s.Begin(now, u, one)
			if v.Refused() != (wait > 0) || v.After != max(wait, 0) || v.Refused() && v.Reason != Strangers {
				t.Fatalf("%s with %d under way at %v: %+v, the wait is %v", u, begun, now, v, wait)
			}
			if !v.Refused() {
				open = append(open, under{u, now})
			}
		}
		for _, u := range open {
			s.End(u.at, u.user, one, false)
		}
		if len(s.begun) != 0 {
			t.Errorf("it keeps %v", s.begun)
		}
	})
}

// A deed of two kinds is refused for the one that takes longer, and begins neither. One that is more
// than an hour's worth may be done when nothing else counts.
func TestDeedOfTwoKinds(t *testing.T) {
	s := NewDeeds(Deed{Groups: 10, Members: 100})
	done := func(now time.Duration, d Deed) Verdict {
		v := s.Begin(now, "alice", d)
		if !v.Refused() {
			s.End(now, "alice", d, true)
		}
		return v
	}
	if v := done(0, Deed{Groups: 1, Members: 1000}); v.Refused() {
		t.Fatalf("a large group: %+v", v)
	}
	if v := done(0, Deed{Groups: 1, Members: 1}); v.Reason != MembersAdded || v.After < 9*time.Hour {
		t.Errorf("after ten hours' worth: %+v", v)
	}
	for range 9 {
		if v := done(0, Deed{Groups: 1}); v.Refused() {
			t.Fatalf("groups of nobody else: %+v", v)
		}
	}
	if v := done(0, Deed{Groups: 1}); v != (Verdict{GroupsCreated, 6 * time.Minute}) {
		t.Errorf("an eleventh group: %+v", v)
	}
	if v := done(0, Deed{Strangers: 1000}); v.Refused() {
		t.Errorf("what has no bound: %+v", v)
	}
	if v := done(10*time.Hour, Deed{Groups: 1, Members: 100}); v.Refused() {
		t.Errorf("ten hours later: %+v", v)
	}
}

// What a deed costs from begin to end.
func BenchmarkDeed(b *testing.B) {
	s := NewDeeds(Deed{100, 10_000, 1_000_000_000})
	b.ReportAllocs()
	for b.Loop() {
		if v := s.Begin(0, "alice", Deed{Strangers: 1}); !v.Refused() {
			s.End(0, "alice", Deed{Strangers: 1}, true)
		}
	}
}
