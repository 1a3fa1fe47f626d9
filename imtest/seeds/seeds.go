// Package seeds says which random schedules a test plays. All random tests of the module ask
// it, so that the same variables of the environment repeat any of them:
//
//   - PIM_SEED names one schedule; a test plays this one and no other.
//   - PIM_FIRST_SEED names the first schedule; a test plays as many as it always does, of the
//     seeds from there on. A run of CI sets it, so that it can be repeated as a whole.
//   - Without either the first seed is random.
//
// Seeds are decimal numbers of 64 bits without a sign. The first seed is logged: the testing
// package prints it when the test fails.
package seeds

import (
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	one   = "PIM_SEED"
	start = "PIM_FIRST_SEED"
)

// First returns the seed of a test that makes all its choices from a single one, or that
// counts up from it until it has found something. A setting that is no number fails the test.
func First(t testing.TB) uint64 {
	t.Helper()
	for _, name := range []string{one, start} {
		if n, ok := number(t, name); ok {
			t.Logf("%s=%d", name, n)
			return n
		}
	}
	n := rand.Uint64() >> 1 // seeds that follow need no more than 64 bits
	t.Logf("%s=%d", start, n)
	return n
}

// Many returns n, or a sixteenth of it with -short, at least 1. It is for tests that play so many schedules
// that the race detector has long seen enough; make test plays all of them without it.
func Many(n int) int {
	if testing.Short() {
		return max(1, n/16)
	}
	return n
}

// Schedules returns which schedules a test plays: count of them, of the seeds first,
// first+1, … The count is 1 if PIM_SEED is set. Otherwise it is that of the environment
// variable named more, or n if that is not set or more is empty. A setting that is no number
// fails the test, and so does a first seed with too few seeds behind it.
func Schedules(t testing.TB, n int, more string) (first, count uint64) {
	t.Helper()
	count = uint64(n)
	if m, ok := number(t, more); ok {
		count = m
	}
	if os.Getenv(one) != "" {
		count = 1
	}
	first = First(t)
	if first > math.MaxUint64-count {
		t.Fatalf("there are less than %d seeds from %d on", count, first)
	}
	return first, count
}

// number returns a variable of the environment, and whether it is set.
func number(t testing.TB, name string) (n uint64, set bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}
