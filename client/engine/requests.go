package engine

import (
	"maps"
	"slices"
	"time"
)

// request is a request that the server owes an answer to; asks and pulls embed it.
type request struct {
	number   uint64 // PIMPullReq.request_id
	answerBy time.Duration
}

func (r *request) base() *request { return r }

// requests are the requests of one kind that are under way, by their numbers.
type requests[R interface{ base() *request }] map[uint64]R

// waits reports whether the server owes an answer.
func (rs requests[R]) waits() bool { return len(rs) > 0 }

// extend gives every answer time until by at least.
func (rs requests[R]) extend(by time.Duration) {
	for _, r := range rs {
		r.base().answerBy = max(r.base().answerBy, by)
	}
}

// restart gives every answer time until by.
func (rs requests[R]) restart(by time.Duration) {
	for _, r := range rs {
		r.base().answerBy = by
	}
}

// overdue returns the requests that were not answered by now, in the order of their numbers.
func (rs requests[R]) overdue(now time.Duration) (late []R) {
	for _, r := range rs.ordered() {
		if now >= r.base().answerBy {
			late = append(late, r)
		}
	}
	return late
}

// ordered returns the requests in the order of their numbers.
func (rs requests[R]) ordered() (all []R) {
	for _, number := range slices.Sorted(maps.Keys(rs)) {
		all = append(all, rs[number])
	}
	return all
}

// deadline returns when the first answer is overdue. While the shell does not read, none is.
func (rs requests[R]) deadline(paused bool) time.Duration {
	at := never
	if paused {
		return at
	}
	for _, r := range rs {
		at = min(at, r.base().answerBy)
	}
	return at
}
