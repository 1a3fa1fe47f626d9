package engine

import (
	"testing"
	"time"

	"github.com/pim-im/pim/wire"
)

// A device that is replaced may have replaced itself: once for each stray Hello, for two
// minutes after the last.
func TestStrays(t *testing.T) {
	var s strays
	if s.useUp(wire.CodeReplaced, 0) {
		t.Error("there was no stray Hello")
	}
	for range 10 {
		s.note(time.Hour)
	}
	if s.useUp(wire.CodeUnauthorized, time.Hour) {
		t.Error("a Hello does not end a connection in any other way")
	}
	for n := range maxStrays + 1 {
		if got := s.useUp(wire.CodeReplaced, time.Hour+strayFor); got != (n < maxStrays) {
			t.Errorf("replaced for the %d. time: by itself: %v", n+1, got)
		}
	}
	s.note(time.Hour)
	if s.useUp(wire.CodeReplaced, time.Hour+strayFor+1) {
		t.Error("no Hello is on its way for so long")
	}
}
