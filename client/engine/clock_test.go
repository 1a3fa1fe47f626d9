package engine_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

func steady(ms float64) func() float64 { return func() float64 { return ms } }

// A device's wall clock is half an hour wrong, either way: its local times are right.
func TestClockIsWrong(t *testing.T) {
	for _, wrong := range []pim.Millis{30 * 60_000, -30 * 60_000} {
		v := setsOut(t, steady(350))
		v.delay[1] = steady(250)
		v.wrong = wrong
		v.starts(engine.Snapshot{})
		v.says("at once")
		v.passes(10 * time.Second)
		v.says("later")
		for _, text := range []string{"at once", "later"} {
			if off := v.said(text); off < 48*time.Millisecond || off > 52*time.Millisecond {
				t.Errorf("%d ms wrong: %q is %v off, want half of what the ways differ by", wrong, text, off)
			}
		}
	}
}

// The user sets the clock while a conversation goes on: the next message waits
// for one round trip, no longer, and its local time is right.
func TestClockIsSet(t *testing.T) {
	for _, by := range []pim.Millis{3_600_000, -3_600_000, 600, -600} {
		v := setsOut(t, steady(300))
		v.starts(engine.Snapshot{})
		v.passes(10 * time.Second)
		v.wrong += by
		v.says("just after")
		v.passes(599 * time.Millisecond)
		if len(v.errors) != 0 {
			t.Errorf("set by %d ms: transmitted before the clock is known again", by)
		}
		v.passes(2 * time.Millisecond)
		if off := v.said("just after"); off > 2*time.Millisecond {
			t.Errorf("set by %d ms: %v off", by, off)
		}
	}
}

// A time service that slews the clock by 500 ppm stops nothing, however long the
// engine has nothing to do in between.
func TestClockIsSlewed(t *testing.T) {
	v := setsOut(t, steady(300))
	v.starts(engine.Snapshot{})
	for range 3600 {
		v.passes(2 * time.Second)
		v.wrong++
	}
	v.says("x")
	if off := v.said("x"); off > 2*time.Millisecond {
		t.Errorf("%v off", off)
	}
}

// In a sleep the monotonic clock stands still. The frames that were on the line, a
// sample among them, are read after waking.
func TestClockAfterASleep(t *testing.T) {
	for _, slept := range []time.Duration{time.Hour, 600 * time.Millisecond} {
		for _, before := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, 10 * time.Second} { // there, back, neither
			v := setsOut(t, steady(300))
			v.starts(engine.Snapshot{})
			v.passes(before)
			v.sleeps(slept)
			v.says("awake")
			v.passes(time.Second)
			if off := v.said("awake"); off > 2*time.Millisecond {
				t.Errorf("slept for %v, %v after Welcome: %v off", slept, before, off)
			}
		}
	}
}

// The device sleeps between Hello and Welcome: then Welcome is no sample.
func TestSleepBeforeWelcome(t *testing.T) {
	v := setsOut(t, steady(300))
	v.dials(engine.Snapshot{})
	v.passes(400 * time.Millisecond)
	v.sleeps(time.Hour)
	v.passes(time.Millisecond)
	v.says("awake")
	v.passes(time.Second)
	if off := v.said("awake"); off > 2*time.Millisecond {
		t.Errorf("%v off", off)
	}
}

// A message that was transmitted before has its local time, so its resend does not wait
// for the clock.
func TestResendDoesNotWaitForTheClock(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.sends(chat, "a")
	s.skew -= 3_600_000
	s.sends(chat, "b")
	s.w.passes(4 * time.Second)
	s.transmits("send a attempt 1", "PIMPing", "send a attempt 2")
	now := int64(s.w.server.Now())
	s.gets(&wirepb.PIMTimeResp{T1: int64(s.w.now - 10*time.Second), T2: now, T3: now}) // of before the jump
	s.transmits()
	s.gets(&wirepb.PIMTimeResp{T1: int64(s.w.now), T2: now, T3: now})
	s.transmits("send b attempt 1")
}

// A line that died in the jump is noticed, although nothing but a sample is under
// way.
func TestDeadLineAfterAJump(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.skew -= 3_600_000
	s.sends(chat, "a")
	s.w.passes(10 * time.Second)
	if s.engine.State() == engine.Connected {
		t.Error("still connected after 10 s of silence")
	}
}

// The shell did not read for a while: an answer that it reads then is no sample that a
// message can go by.
func TestClockAfterAPause(t *testing.T) {
	v := setsOut(t, steady(50))
	v.starts(engine.Snapshot{})
	v.wrong += 5000
	v.says("x")
	v.step(engine.Pause{On: true})
	v.passes(9 * time.Second)
	v.step(engine.Pause{On: false})
	v.passes(200 * time.Millisecond)
	if off := v.said("x"); off > 2*time.Millisecond {
		t.Errorf("%v off", off)
	}
}

// The server's clock is set back, and forward again: the local times follow it,
// and grow as long as it is not set.
func TestLocalTimeFollowsTheServer(t *testing.T) {
	v := setsOut(t, steady(20))
	v.starts(engine.Snapshot{})
	for i, set := range []pim.Millis{0, -3_600_000, -3_630_000, 0} {
		v.set = set
		v.passes(5 * time.Minute) // a heartbeat, and with it a sample
		for j := range 20 {
			text := strconv.Itoa(20*i + j)
			v.says(text)
			if off := v.said(text); off > 2*time.Millisecond {
				t.Errorf("message %s is %v off", text, off)
			}
			v.passes(200 * time.Millisecond)
		}
		for j, l := range v.locals[20*i+1:] {
			if before := v.locals[20*i+j]; l <= before {
				t.Errorf("local time %d follows %d", l, before)
			}
		}
	}
}

// A device moves between nodes that go by one time, but not to the millisecond, and writes just before and just after. What it sends
// later has the later local time: otherwise it would be displayed in another order.
func TestLocalTimeGrowsFromNodeToNode(t *testing.T) {
	for _, by := range []pim.Millis{-500, -450, -300, -20, 300} {
		for _, delay := range []float64{0.2, 20, 400} {
			v := setsOut(t, steady(delay))
			v.starts(engine.Snapshot{})
			v.passes(10 * time.Second)
			v.says("before")
			v.passes(2 * time.Second)
			v.says("just before")
			v.moves(by)
			v.says("just after")
			v.says("after")
			v.localsGrow()
			v.passes(2 * time.Second)
			v.says("later")
			if off := v.said("later"); off > 2*time.Millisecond {
				t.Errorf("%d ms ahead, %v ms away: %v off", by, delay, off)
			}
		}
	}
}

// A device's Hello waits for seconds at a node that has just started: what was queued waits for a sample, and its local times are right.
func TestHelloThatWaits(t *testing.T) {
	v := setsOut(t, steady(5))
	v.delay[0] = steady(4000)
	v.dials(engine.Snapshot{})
	v.delay[0] = v.delay[1]
	v.says("queued")
	v.passes(4020 * time.Millisecond)
	if off := v.said("queued"); off > 2*time.Millisecond {
		t.Errorf("%v off", off)
	}
}

// A device's Hello waits at a node that leads its time to what is right, by up to 5 ms a second. What was queued leaves with Welcome, when
// the device takes the time for half a second later than it is, and until that has passed its local times are a millisecond apart.
func TestLocalTimeGrowsWhileANodeIsLed(t *testing.T) {
	v := setsOut(t, steady(0.2))
	v.delay[0] = steady(900)
	v.dials(engine.Snapshot{})
	v.delay[0] = v.delay[1]
	for i := range 10 {
		v.says("queued " + strconv.Itoa(i))
	}
	v.passes(950 * time.Millisecond)
	for i := range 60 {
		if i == 20 {
			v.set -= 2 // between two samples
		}
		v.says(strconv.Itoa(i))
		v.passes(10 * time.Millisecond)
	}
	v.localsGrow()
}

// The server's clock was set back by an hour while the device was off.
func TestLocalTimeAfterTheServerWentBack(t *testing.T) {
	v := setsOut(t, steady(20))
	v.starts(engine.Snapshot{Meta: engine.Meta{User: "alice", LastLocal: v.clock() + 3_600_000}})
	v.passes(time.Second)
	v.says("x")
	if off := v.said("x"); off > 2*time.Millisecond {
		t.Errorf("%v off", off)
	}
}

// A device whose clock was ahead is restarted: its local times go on growing.
func TestLocalTimeGrowsOverARestart(t *testing.T) {
	v := setsOut(t, steady(20))
	last := v.clock() + 2000
	v.starts(engine.Snapshot{Meta: engine.Meta{User: "alice", LastLocal: last}})
	v.says("a")
	v.says("b")
	if want := []pim.Millis{last + 1, last + 2}; !slices.Equal(v.locals, want) {
		t.Errorf("local times %d, want %d", v.locals, want)
	}
}
