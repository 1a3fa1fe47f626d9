package pebble

import (
	"testing"
	"time"
)

// Of an error that comes again and again the first is logged, and then one a minute.
func TestSeldom(t *testing.T) {
	var s seldom
	now := time.Unix(1e9, 0)
	logged, counted := 0, 0
	for range 20 * 60 * 3 { // twenty a second, for three minutes
		if more, ok := s.next(now); ok {
			logged++
			counted += more
		}
		now = now.Add(50 * time.Millisecond)
	}
	if logged != 3 || counted != 2*(20*60-1) {
		t.Errorf("%d lines, which tell of %d more", logged, counted)
	}
	if more, ok := s.next(now.Add(time.Hour)); !ok || more != 0 {
		t.Errorf("an hour later: %v, and it tells of %d more", ok, more)
	}
}
