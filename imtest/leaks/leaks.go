// Package leaks has goleak wait for goroutines that are about to end.
//
// After the last test goleak looks for goroutines for less than half a second, and then the
// package has failed. On a slow and busy machine a goroutine that nobody holds up any more,
// such as one that reads from a connection which was just closed, may need longer to be run.
package leaks

import (
	"time"

	"go.uber.org/goleak"
)

// patience bounds the wait. It only delays the report of a goroutine that does not end.
const patience = time.Minute

// Patiently returns m for goleak.VerifyTestMain. Its Run is m's, and then, if the tests have
// passed, waits until no goroutine is left, for a minute at most. Goroutines that are not to
// be waited for are named by the same options as for VerifyTestMain, without goleak.Cleanup.
func Patiently(m goleak.TestingM, ignored ...goleak.Option) goleak.TestingM {
	return patient{m, patience, ignored}
}

type patient struct {
	goleak.TestingM
	patience time.Duration
	ignored  []goleak.Option
}

// Run implements goleak.TestingM.
func (p patient) Run() (code int) {
	code = p.TestingM.Run()
	for begun := time.Now(); code == 0 && goleak.Find(p.ignored...) != nil && time.Since(begun) < p.patience; { // Find takes its time
	}
	return code
}
