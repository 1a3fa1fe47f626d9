package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// A round is a script of times: what is due, and when.
func TestRaceIsAScript(t *testing.T) {
	var r race
	now := time.Hour
	if d, want := r.begin(now, "a"), (Dial{1, "a"}); d != want || r.deadline() != now+raceEvery {
		t.Fatalf("begins with %v, and goes on at %v", d, r.deadline())
	}
	due := func(at time.Duration, want verdict) {
		t.Helper()
		if got := r.due(at); got != want {
			t.Fatalf("%v after the beginning: %v, want %v", at-now, got, want)
		}
	}
	due(now+raceEvery-1, goesOn)
	due(now+raceEvery, another)
	r.attempt(now+raceEvery, "b")
	due(now+2*raceEvery-1, goesOn)
	due(now+2*raceEvery, another)
	if d, want := r.attempt(now+2*raceEvery, "c"), (Dial{3, "c"}); d != want {
		t.Fatalf("the third attempt is %v, want %v", d, want)
	}
	if at := r.deadline(); at != now+raceFor {
		t.Fatalf("after three attempts the next thing is due at %v", at-now)
	}
	due(now+raceFor-1, goesOn)
	due(now+raceFor, over)
	if server, others, ok := r.won(2); server != "b" || !slices.Equal(others, []uint64{1, 3}) || !ok {
		t.Fatalf("the second wins: %q, the others are %v, %v", server, others, ok)
	}
	if _, _, ok := r.won(3); ok {
		t.Fatal("an attempt that was hung up wins")
	}
	if d, want := r.begin(now, "a"), (Dial{4, "a"}); d != want {
		t.Fatalf("the next round begins with %v, want %v", d, want)
	}
}

// Attempts fail, get no token, win, and come too late, in any order. What becomes of a
// round follows from how many are left, and which servers were tried.
func TestRaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r race
		var last uint64
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			now := time.Duration(rapid.IntRange(0, 1000).Draw(t, "now")) * time.Second
			server := rapid.SampledFrom([]string{"a", "b", "c"})
			running, tried := map[uint64]string{}, []string{}
			begun, lastAt := now, now
			note := func(d Dial) {
				lastAt = now
				if last++; d.Attempt != last {
					t.Fatalf("attempt %d follows %d", d.Attempt, last-1)
				}
				running[d.Attempt], tried = d.Server, append(tried, d.Server)
			}
			note(r.begin(now, server.Draw(t, "first")))
			for range 100 {
				n := last - rapid.Uint64Range(0, min(4, last-1)).Draw(t, "attempt")
				_, runs := running[n]
				var got, want verdict
				switch what := rapid.IntRange(0, 3).Draw(t, "what"); what {
				case 0, 1:
					at, next := running[n], server.Draw(t, "next")
					delete(running, n)
					comesBack := what == 0 && rapid.Bool().Draw(t, "told")
					if runs && comesBack {
						i := slices.Index(tried, at)
						tried = slices.Delete(tried, i, i+1)
					}
					switch {
					case !runs:
					case what == 0 && len(tried) < raceAttempts && !slices.Contains(tried, next):
						want = another
					case len(running) == 0:
						want = over
					}
					if what == 0 {
						got = r.failed(n, comesBack, next)
					} else {
						err := pim.Errorf(pim.KindUnavailable, "no token")
						if got = r.withoutToken(n, err); runs != (r.noToken == err) {
							t.Fatalf("attempt %d of %v gets no token: %v", n, running, r.noToken)
						}
					}
				case 2:
					now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "wait")) * time.Millisecond
					if got = r.due(now); got != goesOn && now < r.deadline() || got == goesOn && now >= r.deadline() {
						t.Fatalf("at %v %v is due, the deadline is %v", now, got, r.deadline())
					}
					switch {
					case now >= begun+raceFor:
						want = over
					case now >= lastAt+raceEvery && len(tried) < raceAttempts:
						want = another
					}
				case 3:
					server, others, ok := r.won(n)
					if ok != runs || ok && server != running[n] || ok && len(others) != len(running)-1 {
						t.Fatalf("of %v attempt %d has won: %q, %v, %v", running, n, server, others, ok)
					}
					if ok {
						want, got = over, over
					}
				}
				if got != want {
					t.Fatalf("attempt %d of %v, tried %v: %v, want %v", n, running, tried, got, want)
				}
				if got == another {
					note(r.attempt(now, server.Draw(t, "another")))
				}
				if len(tried) > raceAttempts {
					t.Fatalf("%d attempts in a round", len(tried))
				}
				if got == over {
					r.end()
					break
				}
			}
		}
	})
}
