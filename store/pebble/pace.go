package pebble

import "time"

const (
	// companyWait is how long an fsync waits for company, at most. docs/decisions/0020
	// has what it buys.
	companyWait = 2 * time.Millisecond
	// companyWithin is how long ago the fsync before may have begun for company to be
	// expected: a commit after a longer silence has its fsync at once.
	companyWithin = 2 * companyWait

	trialFor   = 50 * time.Millisecond  // how long it is tried whether waiting pays
	waitFor    = time.Second            // then, if it does, until that is tried again
	plainFor   = 500 * time.Millisecond // and if it does not; doubled each time, up to
	maxPlain   = 8 * time.Second
	fewerParts = 0.7 // of the writes without waits there must be with them
)

// pace says whether an fsync is to wait for company.
//
// Waiting pays where writes come whether or not the ones before are answered: more of
// them share an fsync. It does not where their senders wait for the answers: then
// fewer come. Nobody can tell the two apart but by trying, so that is done: for a
// moment fsyncs wait, and if as many writes come as without, they go on.
//
// The zero value is ready.
type pace struct {
	last time.Time // when the newest fsync began

	// The period under way. There are three: plain, trial, and waiting.
	begun  time.Time
	lasts  time.Duration
	waits  bool
	trial  bool
	writes int
	fsyncs int

	rate  float64       // writes a second, of the plain period before
	plain time.Duration // how long the one after the next trial in vain is
}

// wait returns how long an fsync that is asked for at now waits: 0 or companyWait.
func (p *pace) wait(now time.Time) time.Duration {
	if p.waits && now.Sub(p.last) <= companyWithin {
		return companyWait
	}
	return 0
}

// began notes that an fsync of so many writes begins.
func (p *pace) began(now time.Time, writes int) {
	silent := now.Sub(p.last) > companyWithin
	if p.last = now; silent { // what was counted says nothing
		p.begin(now, trialFor)
		return
	}
	p.writes += writes
	p.fsyncs++
	passed := now.Sub(p.begun)
	if passed < p.lasts {
		return
	}
	rate := float64(p.writes) / passed.Seconds()
	switch {
	case !p.waits:
		p.rate = rate
		p.begin(now, trialFor)
		p.waits, p.trial = true, true
	case !p.trial:
		p.begin(now, trialFor)
	case rate >= fewerParts*p.rate && 2*p.writes >= 3*p.fsyncs: // and there is company
		p.plain = 0
		p.begin(now, waitFor)
		p.waits = true
	default:
		p.plain = min(max(2*p.plain, plainFor), maxPlain)
		p.begin(now, p.plain)
	}
}

// begin begins a plain period.
func (p *pace) begin(now time.Time, lasts time.Duration) {
	p.begun, p.lasts, p.waits, p.trial, p.writes, p.fsyncs = now, lasts, false, false, 0, 0
}
