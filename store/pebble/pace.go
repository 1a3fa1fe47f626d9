package pebble

import "time"

const (
	// companyWait is how long an fsync waits for company, at most. docs/decisions/0020
	// says what that saves.
	companyWait = 2 * time.Millisecond
	// companyWithin is how long ago the fsync before may have begun for company to be
	// expected. A commit after a longer silence has its fsync at once.
	companyWithin = 3 * companyWait

	trialFor   = 50 * time.Millisecond  // length of a trial, and of the plain period before it
	waitFor    = time.Second            // length of the waiting period after a good trial
	plainFor   = 500 * time.Millisecond // length of the plain period after a bad trial
	maxPlain   = 8 * time.Second        // the longest plain period; each bad trial in a row doubles it
	fewerParts = 0.7                    // a good trial has at least this part of the plain rate
)

// pace says whether an fsync is to wait for company.
//
// Waiting pays if writes come whether or not earlier ones are answered: then more of
// them share an fsync. It does not pay if the senders wait for the answers: then fewer
// writes come. Only a trial can tell the two apart. So for a moment fsyncs wait, and if
// about as many writes come as without the wait, fsyncs go on waiting.
//
// The zero value is ready.
type pace struct {
	last time.Time // when the newest fsync began

	// The period under way. It is a plain period, a trial, or a waiting period.
	begun  time.Time
	lasts  time.Duration
	waits  bool
	trial  bool
	writes int
	fsyncs int

	rate  float64       // writes a second of the last plain period
	plain time.Duration // length of the plain period after the last trial; 0: the trial was good
}

// wait returns how long an fsync that is asked for at now must wait: 0 or companyWait.
func (p *pace) wait(now time.Time) time.Duration {
	if p.waits && now.Sub(p.last) <= companyWithin {
		return companyWait
	}
	return 0
}

// syncing notes that an fsync of so many writes begins. It begins the next period if it is time.
func (p *pace) syncing(now time.Time, writes int) {
	silent := now.Sub(p.last) > companyWithin
	if p.last = now; silent { // counts over a silence say nothing about the load
		p.startPeriod(now, trialFor)
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
		p.startPeriod(now, trialFor)
		p.waits, p.trial = true, true
	case !p.trial:
		p.startPeriod(now, trialFor)
	case rate >= fewerParts*p.rate && 2*p.writes >= 3*p.fsyncs: // at least 1.5 writes an fsync: there is company
		p.plain = 0
		p.startPeriod(now, waitFor)
		p.waits = true
	default:
		p.plain = min(max(2*p.plain, plainFor), maxPlain)
		p.startPeriod(now, p.plain)
	}
}

// startPeriod begins a plain period.
func (p *pace) startPeriod(now time.Time, lasts time.Duration) {
	p.begun, p.lasts, p.waits, p.trial, p.writes, p.fsyncs = now, lasts, false, false, 0, 0
}
