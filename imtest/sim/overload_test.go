package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
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

// playRefused is the scenario refused-for-now.
func playRefused(s *stage) {
	var order []string
	refusing := true
	s.Server.Reject = func(m *wirepb.PIMSendReq) *pim.Error {
		to := pim.ConversationID(m.Conversation)
		if order = append(order, string(m.Payload)); refusing && to != chat {
			return &pim.Error{Kind: pim.KindOverloaded, Text: "too many strangers", RetryAfter: 10 * second}
		}
		return nil
	}
	writes := func(at time.Duration, to pim.UserID, text string) {
		s.at(at, func() { s.alice.Send(pim.Direct("alice", to), text) })
	}
	writes(5*second, "carol", "carol 1")
	writes(5100*time.Millisecond, "carol", "carol 2")
	writes(5200*time.Millisecond, "dave", "dave")
	writes(5300*time.Millisecond, "erin", "erin")
	writes(6500*time.Millisecond, "bob", "bob")
	s.at(12*second, func() { refusing = false })
	s.until(40 * second)
	s.bothShow("bob")
	if want := []string{"carol 1", "dave", "erin", "bob", "carol 1", "carol 2", "erin", "dave"}; !slices.Equal(order, want) {
		s.t.Errorf("the server got %q, want %q", order, want)
	}
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
