package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// newBackoff returns a backoff whose waits are the longest that may come out.
func newBackoff() *backoff {
	return &backoff{min: 500 * time.Millisecond, max: 30 * time.Second, random: func() float64 { return 1 }}
}

// The formulas of docs/protocol.md, sections 8 and 13, on any history of rounds,
// connections and refused tokens.
func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, now := newBackoff(), time.Hour
		failures, refusals := 0, 0
		doubled := func(n int, limit time.Duration) time.Duration {
			d := b.min
			for range n {
				d = min(2*d, limit)
			}
			return d
		}
		for range rapid.IntRange(1, 100).Draw(t, "rounds") {
			now += time.Duration(rapid.IntRange(0, 100_000).Draw(t, "wait")) * time.Millisecond
			lived := time.Duration(-1) // no connection
			window := time.Duration(0)
			if rapid.Bool().Draw(t, "connects") {
				window = time.Duration(rapid.SampledFrom([]int{0, 7, 600}).Draw(t, "window")) * time.Second
				lived = time.Duration(rapid.SampledFrom([]int{0, 999, 1000, 29_999, 30_000, 100_000}).Draw(t, "lived")) * time.Millisecond
				b.opened(now, window)
				now += lived
			}
			if lived >= 30*time.Second {
				refusals = 0
			}
			refused := rapid.Bool().Draw(t, "refused")
			var got, want time.Duration
			switch {
			case refused && lived < 30*time.Second:
				refusals++
				want = doubled(refusals, 10*b.max)
			case lived >= time.Second && window == 0:
				failures, want = 0, b.min
			case lived >= time.Second:
				failures, want = 0, window
			default:
				want = doubled(failures, b.max)
				failures++
			}
			if refused {
				got = b.refused(now)
			} else {
				got = b.lost(now)
			}
			b.left(now)
			if got != want {
				t.Fatalf("lived %v, refused %v, after %d failures and %d refusals: waits up to %v, want %v", lived, refused, failures, refusals, got, want)
			}
			if at, ok := b.sparedUntil(now); refused && lived < 30*time.Second && (!ok || at != now+2*b.min) || ok && refusals == 0 {
				t.Fatalf("after %d refusals the server is spared until %v, %v; now %v", refusals, at, ok, now)
			}
			if at, ok := b.sparedUntil(now + 2*b.min); ok {
				t.Fatalf("a server is spared until %v, for longer than %v", at, 2*b.min)
			}
			if rapid.IntRange(0, 9).Draw(t, "another network") == 0 {
				b.forget()
				failures = 0
			}
		}
	})
}

// Every wait is spread from 0 on, but the one that a gateway names.
func TestWaitsAreSpread(t *testing.T) {
	b := newBackoff()
	b.random = func() float64 { return 0 }
	if lost, refused := b.lost(0), b.refused(0); lost != 0 || refused != 0 {
		t.Errorf("the shortest waits are %v and %v", lost, refused)
	}
	if got := b.askedFor(&pim.Error{RetryAfter: 8 * time.Second}); got != 8*time.Second {
		t.Errorf("a gateway that named 8 s is left alone for %v", got)
	}
}

// A gateway that names a time gets that, up to 10 minutes, and up to a quarter more.
func TestAskedFor(t *testing.T) {
	b := newBackoff()
	for _, test := range []struct {
		err  error
		want time.Duration
	}{
		{nil, 0},
		{errors.New("cut"), 0},
		{&pim.Error{RetryAfter: -time.Second}, 0},
		{&pim.Error{RetryAfter: 8 * time.Second}, 10 * time.Second},
		{fmt.Errorf("dial: %w", &pim.Error{RetryAfter: time.Hour}), 750 * time.Second},
	} {
		if got := b.askedFor(test.err); got != test.want {
			t.Errorf("%v: waits up to %v, want %v", test.err, got, test.want)
		}
	}
}

// Requests are repeated after 1, 2, 4 s and so on, at most 30 s, or half of that.
func TestRepeatAfter(t *testing.T) {
	for n, want := range []time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 6: 30, 7: 30, 99: 30} {
		if want == 0 {
			continue
		}
		want *= time.Second
		most, least := repeatAfter(n, func() float64 { return 1 }), repeatAfter(n, func() float64 { return 0 })
		if most != want || least != want/2 {
			t.Errorf("repetition %d comes after %v to %v, want %v to %v", n, least, most, want/2, want)
		}
	}
}
