package sim

import (
	"slices"
	"testing"
	"time"
)

// A line carries one frame after the other: frames that are sent at the same time wait
// for the line, and are under way after that.
func TestRate(t *testing.T) {
	w := NewWorld(1)
	d := w.NewDevice("alice", "phone")
	d.net = Net{Delay: 100 * time.Millisecond, Rate: 1000}
	c := &conn{d: d}
	var arrived []time.Duration
	start := w.now
	for range 3 {
		c.carry(&c.up, true, 1000, func() { arrived = append(arrived, w.now-start) })
	}
	w.Run(start + time.Minute)
	want := []time.Duration{1100 * time.Millisecond, 2100 * time.Millisecond, 3100 * time.Millisecond}
	if !slices.Equal(arrived, want) {
		t.Errorf("arrived at %v, want %v", arrived, want)
	}
}
