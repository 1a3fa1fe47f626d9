package lbs

import "time"

const (
	// remember is for how long an assignment counts as a connection at least. Until LeaseTime is over
	// the client may dial, and by then the gateway has said once more how many connections it has.
	remember = LeaseTime + viewAge
	viewAge  = 5 * time.Second

	slots = int64(remember/time.Second) + 1 // and the second that has begun

	// burst is the part of a second's rate that may be assigned at once. With refills of Headroom × rate
	// a second, that makes the rate in any second.
	burst = 1 - Headroom

	// spare is the part of the burst that clients of eager networks leave to others.
	spare = 0.5
)

// ledger is what this LBS has assigned to one gateway.
type ledger struct {
	rate   float64 // this LBS's part of the accept rate
	tokens float64 // how many clients may be assigned now
	at     time.Duration
	seen   time.Duration // when the gateway was last in the view

	assigned int   // in all slots
	bytes    int64 // likewise
	ring     [slots]slot
	second   int64 // the newest slot's
}

// slot is what was assigned in one second.
type slot struct {
	assigned int
	bytes    int64
}

func newLedger(now time.Duration, rate float64) *ledger {
	l := &ledger{rate: rate, at: now, second: int64(now / time.Second)}
	l.tokens = l.most()
	return l
}

// most returns the most tokens that gather.
func (l *ledger) most() float64 {
	if l.rate <= 0 {
		return 0
	}
	return max(1, burst*l.rate)
}

// free reports whether one client may be assigned now, or one of an eager network. The time is that of the last
// advance.
func (l *ledger) free(eager bool) bool {
	if !eager {
		return l.tokens >= 1
	}
	most := l.most()
	return l.tokens >= min(most, 1+spare*most)
}

// limit sets this LBS's part of the accept rate.
func (l *ledger) limit(now time.Duration, rate float64) {
	l.advance(now)
	l.rate = rate
	l.tokens = min(l.tokens, l.most())
}

// advance adds the tokens of the time that has passed, and forgets the slots that are over.
func (l *ledger) advance(now time.Duration) {
	l.tokens = min(l.most(), l.tokens+Headroom*l.rate*(now-l.at).Seconds())
	l.at = now
	second := int64(now / time.Second)
	for n := min(second-l.second, slots); n > 0; n-- {
		old := &l.ring[(second-n+1)%slots]
		l.assigned -= old.assigned
		l.bytes -= old.bytes
		*old = slot{}
	}
	l.second = max(second, l.second)
}

// assign notes one client, for which the ledger has a token. The time is that of the last advance.
func (l *ledger) assign(cost int64) {
	l.tokens--
	s := &l.ring[l.second%slots]
	s.assigned++
	s.bytes += cost
	l.assigned++
	l.bytes += cost
}
