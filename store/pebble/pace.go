package pebble

import "time"

const (
	// companyWait is how long an fsync waits for company, at most. docs/decisions/0020
	// has what it buys.
	companyWait = 2 * time.Millisecond
	// companyWithin is how long ago the fsync before may have begun for company to be
	// expected: a commit after a longer silence has its fsync at once.
	companyWithin = 2 * companyWait
	// maxLonely bounds how many fsyncs in a row do not wait, as waiting brought nobody.
	maxLonely = 127
)

// pace says whether an fsync is to wait for company. It goes by what was seen: the
// fsync before is not long ago, and waiting has brought company lately. So a lone
// commit on a quiet node does not wait, nor does a client that sends one message
// after the other's answer, but for one time in maxLonely+1.
type pace struct {
	last   time.Time // when the newest fsync began
	lonely int       // fsyncs that did not wait after the newest that waited in vain
	skip   int       // of them that are still to come
}

// wait returns how long an fsync that is asked for at now waits: 0 or companyWait.
func (p *pace) wait(now time.Time) time.Duration {
	if now.Sub(p.last) > companyWithin {
		return 0
	}
	if p.skip > 0 {
		p.skip--
		return 0
	}
	return companyWait
}

// began notes that an fsync of so many commits begins, and whether it has waited.
func (p *pace) began(now time.Time, waited bool, commits int) {
	p.last = now
	switch {
	case commits > 1:
		p.lonely, p.skip = 0, 0
	case waited:
		p.lonely = min(2*p.lonely+1, maxLonely)
		p.skip = p.lonely
	}
}
