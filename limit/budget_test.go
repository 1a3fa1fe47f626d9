package limit

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// sender is a client that sends, and is read as slowly as the gate says.
type sender struct {
	g    *Gate
	user pim.UserID
	sent Sent
	now  time.Duration
}

// read has the gate charge one read, and waits for as long as it says.
func (s *sender) read(frames, bytes int) Slowdown {
	slow := s.g.Sends(&s.sent, s.now, s.user, "phone", frames, bytes)
	s.now += slow.Pause
	return slow
}

// However a client sends, in no time is more read from it than the burst, what the rate gives, and one read:
// also if it connects anew in between, for which it gains an eighth of the burst at most.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{Frames: rapid.IntRange(10, 100).Draw(t, "frames"), Bytes: rapid.IntRange(1000, 10_000).Draw(t, "bytes")}
		s := &sender{g: NewGate(r, half), user: "eve"}
		frames, bytes, logins := 0, 0, 0
		const mostFrames, mostBytes = 500, 20_000 // of a read
		for range rapid.IntRange(1, 200).Draw(t, "reads") {
			if rapid.IntRange(0, 9).Draw(t, "connects") == 0 {
				s.sent = s.g.Returns(s.user, "phone")
				logins++
			}
			f, b := rapid.IntRange(0, mostFrames).Draw(t, "f"), rapid.IntRange(0, mostBytes).Draw(t, "b")
			frames, bytes = frames+f, bytes+b
			for name, x := range map[string]struct{ n, rate, read int }{
				"frames": {frames, r.Frames, mostFrames}, "bytes": {bytes, r.Bytes, mostBytes},
			} {
				burst := float64(x.rate * budgetBurst)
				if most := burst*(1+float64(logins)/parts) + float64(x.rate)*s.now.Seconds() + float64(x.read)*1.01 + 1; float64(x.n) > most {
					t.Fatalf("%d %s in %v with %d logins, at most %.0f may be", x.n, name, s.now, logins, most)
				}
			}
			s.read(f, b)
			s.now += time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 100, 2000}).Draw(t, "idle")) * time.Millisecond
		}
	})
}

// Whoever stays within the rates and the burst is never slowed down, whatever others send.
func TestBudgetOfTheHonest(t *testing.T) {
	g := NewGate(Rates{Frames: 100, Bytes: 10_000}, half)
	eve := &sender{g: g, user: "eve"}
	alice := &sender{g: g, user: "alice"}
	if slow := alice.read(1000, 100_000); slow != (Slowdown{}) { // all that was waiting
		t.Errorf("at first: %+v", slow)
	}
	for i := range 600 {
		for eve.now <= alice.now {
			eve.read(1000, 60_000)
		}
		alice.now += 100 * time.Millisecond
		if slow := alice.read(10, 1000); slow != (Slowdown{}) {
			t.Fatalf("after %v: %+v", alice.now, slow)
		}
		if i%100 == 0 {
			alice.sent = g.Returns("alice", "phone")
		}
	}
}

// A connection that stays over its budget insists after a minute, and not before. One that rests
// for as long as half of its burst takes has a minute again.
func TestInsists(t *testing.T) {
	for _, test := range []struct {
		rates  Rates
		reason Reason
	}{
		{Rates{Frames: 100}, ConnectionFrames}, {Rates{Bytes: 10_000}, ConnectionBytes}, {Rates{Frames: 100, Bytes: 1_000_000}, ConnectionFrames},
	} {
		t.Run(fmt.Sprint(test.reason, test.rates), func(t *testing.T) {
			s := &sender{g: NewGate(test.rates, half), user: "eve"}
			flood := func(until time.Duration) (slow Slowdown) {
				for s.now < until && !slow.Insists {
					if slow = s.read(200, 20_000); slow.Pause > 0 && slow.Reason != test.reason {
						t.Fatalf("%+v", slow)
					}
				}
				return slow
			}
			if slow := flood(55 * time.Second); slow.Insists {
				t.Fatalf("it insists at %v", s.now)
			}
			s.now += 6 * time.Second
			if slow := s.read(1, 100); slow.Reason != None {
				t.Fatalf("after a rest: %+v", slow)
			}
			begun := s.now
			slow := flood(time.Hour)
			if took := s.now - slow.Pause - begun; !slow.Insists || took < Insists || took > Insists+10*time.Second {
				t.Fatalf("it insists after %v: %+v", took, slow)
			}
			if slow.Pause < budgetBurst*time.Second {
				t.Errorf("it is to come back in %v: the burst is not whole then", slow.Pause)
			}
		})
	}
}

// Without rates nothing is charged.
func TestNoBudget(t *testing.T) {
	s := &sender{g: NewGate(Rates{}, half), user: "eve"}
	for range 100 {
		if slow := s.read(1_000_000, 1<<30); slow != (Slowdown{}) {
			t.Fatal(slow)
		}
	}
	if s.g.BoundsSends() || !s.sent.Whole(s.now) {
		t.Error("it has a budget")
	}
}

// What each read costs.
func BenchmarkSends(b *testing.B) {
	g := NewGate(Rates{Frames: 5000, Bytes: 2 << 20}, half)
	var s Sent
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now += time.Millisecond
		g.Sends(&s, now, "alice", "phone", 1, 100)
	}
}
