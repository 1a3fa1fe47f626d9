package engine

import (
	"cmp"
	"time"
)

// A refused token is no reason to stop. The app gives a new token for every attempt;
// and a server that took a good token for expired, because its clock was wrong, may be
// right the next time. But a server whose clock or keys are wrong refuses all its
// clients at once, and they must not hammer at it. So the waits grow, up to minutes,
// and in the first 2·BackoffMin nothing that the app does makes the engine dial.

const (
	goodAfter = time.Second // a connection that lived so long resets the backoff
	// tokenProven is how long a connection must live to prove that its token was good:
	// if the token was valid when the connection was made, the server ends it no
	// earlier than exp plus its leeway of 30 s.
	tokenProven = 30 * time.Second
	// refusalFactor times BackoffMax is the longest wait after a refused token.
	refusalFactor = 10
)

// backoff is how long to wait between rounds of attempts to connect.
type backoff struct {
	min, max time.Duration // Config.BackoffMin and BackoffMax
	random   func() float64

	failures  int // failures in a row: rounds, and connections that were not good
	refusals  int // tokens that were refused since one was last good
	refusedAt time.Duration

	open     bool // there is a connection
	openedAt time.Duration
	window   time.Duration // from its Welcome: spread of the first wait after it
}

// opened notes a Welcome.
func (b *backoff) opened(now, window time.Duration) {
	b.open, b.openedAt, b.window = true, now, window
}

// left notes that the connection is left, if there is one.
func (b *backoff) left(now time.Duration) {
	b.proven(now)
	b.open = false
}

// forget makes the next wait the shortest: earlier failures say nothing any more.
func (b *backoff) forget() { b.failures = 0 }

// lost returns how long to wait before the next round, because the round, or the
// connection, has come to nothing. After a connection that was good it is a random time
// within the window that the server gave, because its other clients may have lost it in
// the same moment. Else it is a random time up to min(BackoffMin·2ⁿ, BackoffMax), n being
// the failures in a row before this one, which it counts.
func (b *backoff) lost(now time.Duration) time.Duration {
	if b.open && now-b.openedAt >= goodAfter {
		b.failures = 0
		return b.upTo(cmp.Or(b.window, b.min))
	}
	limit := b.grown(b.failures, b.max)
	b.failures++
	return b.upTo(limit)
}

// refused returns how long to wait because a token was refused: after the n-th refusal
// in a row, n from 1, a random time up to min(BackoffMin·2ⁿ, 10·BackoffMax). A token that
// ran out on a connection that proved it good counts as any other loss (lost).
func (b *backoff) refused(now time.Duration) time.Duration {
	if b.proven(now) {
		return b.lost(now)
	}
	b.refusals++
	b.refusedAt = now
	return b.upTo(b.grown(b.refusals, refusalFactor*b.max))
}

// proven reports whether the connection has lived long enough to prove its token good.
// If so, it forgets the refusals before it.
func (b *backoff) proven(now time.Duration) bool {
	good := b.open && now-b.openedAt >= tokenProven
	if good {
		b.refusals = 0
	}
	return good
}

// sparedUntil returns until when the server is spared a dial, because it refused a token a moment
// ago; ok is false if the server may be dialled now.
func (b *backoff) sparedUntil(now time.Duration) (at time.Duration, ok bool) {
	at = b.refusedAt + 2*b.min
	return at, b.refusals > 0 && now < at
}

// askedFor returns how long whoever refused a token, or gave none, wants to be left
// alone, plus a random time of up to a quarter of that: those who are told so should
// not all come back in the same moment. 0: err names no time.
func (b *backoff) askedFor(err error) time.Duration {
	wait := retryAfterOf(err)
	if wait == 0 {
		return 0
	}
	return wait + time.Duration(b.random()*float64(wait)/4)
}

// grown returns min·2ⁿ, at most limit.
func (b *backoff) grown(n int, limit time.Duration) time.Duration {
	if n < 30 && b.min < limit>>n {
		return b.min << n
	}
	return limit
}

func (b *backoff) upTo(limit time.Duration) time.Duration {
	return time.Duration(b.random() * float64(limit))
}

// repeatAfter returns a random wait before the n-th repetition of a request, n from
// 1: between half of 2ⁿ⁻¹ seconds and all of it, at most 30 s.
func repeatAfter(n int, random func() float64) time.Duration {
	d := min(time.Second<<min(n-1, 10), 30*time.Second)
	return d/2 + time.Duration(random()*float64(d/2))
}
