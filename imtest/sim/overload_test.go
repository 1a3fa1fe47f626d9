package sim

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// playTurnedAway is the scenario turned-away.
func playTurnedAway(s *stage) {
	s.at(5*second, func() {
		s.Overload("one", 25*second, overload{how: byUpgrade, after: 20 * second})
		s.Overload("two", 8*second, overload{how: byError, after: 10 * second, window: 20 * second})
		s.alice.Cut()
	})
	s.sends(s.alice, 7*second, second, "in the line")
	s.at(8*second, func() { s.alice.Step(engine.NetworkChanged{Name: "mobile"}) })
	s.at(9*second, func() { s.alice.Step(engine.Reconnect{}) })
	s.at(10*second, func() { s.alice.Step(engine.Online{}) })
	s.at(11*second, func() { s.alice.Step(engine.Online{On: true}) })
	s.at(60*second, func() {
		s.Overload("two", 30*second, overload{how: byError, after: 10 * second, window: 20 * second})
		s.sendAway("two")
	})
	s.sends(s.alice, 60500*time.Millisecond, second, "by the other gateway")
	s.until(80 * second)
	s.bothShow("in the line", "by the other gateway")
}

// The judge notices a device that comes too early, and one that waits though it need not; it forgets
// what a process was told when that has ended.
func TestJudgeOfTimes(t *testing.T) {
	for name, test := range map[string]struct {
		act   func(*World, *Device)
		found bool
	}{
		"in time":                  {func(w *World, d *Device) { w.now += 8 * second; d.comesTo("wss://one") }, false},
		"too early":                {func(w *World, d *Device) { w.now += 8*second - 1; d.comesTo("tls://one:7401") }, true},
		"to another":               {func(w *World, d *Device) { d.comesTo("wss://two") }, false},
		"too early for its clock":  {func(w *World, d *Device) { w.now += 8 * second; d.slept = 1; d.comesTo("wss://one") }, true},
		"another process":          {func(w *World, d *Device) { d.Kill(); d.Start(); d.comesTo("wss://one") }, false},
		"a wait of the backoff":    {func(w *World, d *Device) { d.checkWait(waitOf(30 * second)) }, false},
		"a wait that need not be":  {func(w *World, d *Device) { d.checkWait(waitOf(30*second + 1)) }, true},
		"a wait for the first one": {func(w *World, d *Device) { d.told["two"] = told{0, w.now + minute}; d.checkWait(waitOf(40 * second)) }, false},
		"a wait for the last one":  {func(w *World, d *Device) { d.told["two"] = told{0, w.now + minute}; d.checkWait(waitOf(61 * second)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld(1)
			d := w.NewDevice("alice", "phone")
			d.Start()
			d.noteTime(engine.Lost{Attempt: 1, Err: &pim.Error{Kind: pim.KindOverloaded, RetryAfter: 8 * second}})
			if test.act(w, d); (w.failure != "") != test.found {
				t.Errorf("found %q", w.failure)
			}
		})
	}
}

func waitOf(d time.Duration) engine.StateEvent {
	return engine.StateEvent{State: engine.Waiting, Err: &pim.Error{Kind: pim.KindOverloaded}, RetryIn: d}
}
