package lbs

import "time"

const (
	// remember is for how long an assignment counts as a connection: until the client has connected, which
	// the gateway's handshake timeout bounds, and the gateway has said so.
	remember = slots * time.Second
	slots    = 12

	// burst is the part of a second's rate that may be assigned at once. With refills of Headroom × rate
	// a second, that makes the rate in any second.
	burst = 1 - Headroom
)

// ledger is what this LBS has assigned to one gateway.
type ledger struct {
	rate   float64 // this LBS's part of the accept rate
	tokens float64 // how many clients may be assigned now
	at     time.Duration
	used   time.Duration // when the gateway was last in the view

	assigned int // in all slots
	bytes    int64
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

// assign notes one client, for which the ledger has a token.
func (l *ledger) assign(now time.Duration, cost int64) {
	l.advance(now)
	l.tokens--
	s := &l.ring[l.second%slots]
	s.assigned++
	s.bytes += cost
	l.assigned++
	l.bytes += cost
}
