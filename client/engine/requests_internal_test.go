package engine

import (
	"slices"
	"testing"
	"time"
)

func TestRequestsAndTheirTime(t *testing.T) {
	rs := requests[*request]{}
	if rs.waits() || rs.deadline(false) != never {
		t.Fatal("without a request no answer is awaited")
	}
	second, first := &request{number: 7, answerBy: 20}, &request{number: 3, answerBy: 10}
	rs[7], rs[3] = second, first
	if at := rs.deadline(false); at != 10 || rs.deadline(true) != never || !rs.waits() {
		t.Errorf("something is due at %v, and %v while nothing is read", at, rs.deadline(true))
	}
	rs.extend(15)
	if first.answerBy != 15 || second.answerBy != 20 {
		t.Errorf("extended to %v and %v", first.answerBy, second.answerBy)
	}
	for now, want := range map[time.Duration][]*request{14: nil, 15: {first}, 19: {first}, 20: {first, second}} {
		if got := rs.overdue(now); !slices.Equal(got, want) {
			t.Errorf("at %v %d are overdue, want %d", now, len(got), len(want))
		}
	}
	rs.restart(12) // shorter, for some
	if at := rs.deadline(false); at != 12 || second.answerBy != 12 {
		t.Errorf("restarted until %v and %v", at, second.answerBy)
	}
}
