package engine

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// A login is a device's clock, and a line with random delays to a server whose clock is
// right.
type login struct {
	clock    clock
	delay    func() float64 // of a frame, ms
	drift    float64        // the device's monotonic clock runs faster by this part
	now      time.Duration
	up, down time.Duration // when the last frame arrives at either end: frames keep their order
	answers  []answer      // on their way to the device
	asked    int           // samples, without the Hello
	best     answer        // the one with the best round trip so far
}

type answer struct {
	t1, at time.Duration // transmitted at, on the monotonic clock; the answer arrives
	server int64         // the server's time in between

	there, back time.Duration
}

const loginEpoch = 1_795_000_000_000

// logsIn returns a device that has its Welcome.
func logsIn(delay func() float64, drift float64) *login {
	l := &login{delay: delay, drift: drift, now: time.Hour}
	l.asks()
	hello := l.takes()
	l.asked = 0
	l.clock.calibrate(hello.t1, l.mono(), hello.server)
	if l.clock.takeDue(l.mono()) {
		l.asks()
	}
	return l
}

func (l *login) mono() time.Duration { return l.now + time.Duration(float64(l.now)*l.drift) }

func (l *login) server() int64 { return loginEpoch + l.now.Milliseconds() }

// asks transmits a request for the server's time.
func (l *login) asks() {
	ms := func() time.Duration { return time.Duration(l.delay() * float64(time.Millisecond)) }
	l.asked++
	l.up = max(l.up, l.now+ms())
	l.down = max(l.down, l.up+ms())
	l.answers = append(l.answers, answer{
		t1: l.mono(), at: l.down, server: loginEpoch + l.up.Milliseconds(), there: l.up - l.now, back: l.down - l.up,
	})
}

// takes moves the time to the next answer.
func (l *login) takes() answer {
	a := l.answers[0]
	l.answers = l.answers[1:]
	l.now = a.at
	if l.best.at == 0 || a.there+a.back < l.best.there+l.best.back {
		l.best = a
	}
	return a
}

// passes lets time go by.
func (l *login) passes(d time.Duration) {
	until := l.now + d
	for {
		next := until
		if due := l.clock.dueAt(); due != never { // to the nanosecond
			next = min(next, max(l.now, time.Duration(math.Ceil(float64(due)/(1+l.drift)))+2))
		}
		if len(l.answers) > 0 && l.answers[0].at <= next {
			a := l.takes()
			l.clock.add(a.t1, l.mono(), a.server, a.server)
			continue
		}
		l.now = next
		if l.clock.takeDue(l.mono()) {
			l.asks()
		} else if next == until {
			return
		}
	}
}

// off returns by how much the clock is off.
func (l *login) off() time.Duration {
	return (time.Duration(int64(l.clock.at(Time{Mono: l.mono()}))-l.server()) * time.Millisecond).Abs()
}

// The bar of the design: the local time is off by at most 100 ms at the 99th
// percentile on a jittery link of 350 ms, in a thousand logins. go test -v prints
// the figures, and those of the best round trip. A second after Welcome only one or two
// round trips have come back, which is just not enough to be sure of the bar: it is 97 ms
// in 40,000 logins. The figures of a thousand scatter, so these are always the same thousand.
func TestCalibration(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	uniform := func() float64 { return 200 + 300*rng.Float64() }
	heavy := func() float64 { return 200 + 150*rng.ExpFloat64() }
	times := [4]time.Duration{time.Second, 1500 * time.Millisecond, 10 * time.Second, 5 * time.Minute} // after Welcome
	for _, p := range []struct {
		name  string
		delay func() float64
		bars  [4]int // ms
	}{
		{"200–500 ms", uniform, [4]int{115, 100, 100, 100}},
		{"200 ms and exponential 150 ms", heavy, [4]int{250, 150, 100, 100}},
	} {
		var ours, textbook [4][]time.Duration
		for range 1000 {
			l := logsIn(p.delay, (rng.Float64()-0.5)/10_000)
			welcome := l.now
			for i, at := range times {
				if at > firstHeartbeat {
					l.passes(welcome + firstHeartbeat - l.now)
					l.asks() // with the heartbeat
				}
				l.passes(welcome + at - l.now)
				ours[i] = append(ours[i], l.off())
				textbook[i] = append(textbook[i], ((l.best.there - l.best.back) / 2).Abs())
			}
		}
		for i, at := range times {
			got := percentiles(ours[i])
			t.Logf("one way %s, %v after Welcome: p50/p95/p99 %v, by the best round trip %v", p.name, at, got, percentiles(textbook[i]))
			if got[2] > time.Duration(p.bars[i])*time.Millisecond {
				t.Errorf("one way %s, %v after Welcome: %v off at the 99th percentile, the bar is %d ms", p.name, at, got[2], p.bars[i])
			}
		}
	}
}

func percentiles(d []time.Duration) [3]time.Duration {
	slices.Sort(d)
	n := len(d)
	return [3]time.Duration{
		d[n/2].Round(time.Millisecond), d[n*95/100].Round(time.Millisecond), d[n*99/100].Round(time.Millisecond),
	}
}

// Oscillators drift apart, so an old sample says less and less: samples as often as
// heartbeats keep the clock right.
func TestClockDrifts(t *testing.T) {
	for _, drift := range []float64{40e-6, -40e-6} {
		l := logsIn(func() float64 { return 300 }, drift)
		for range 5 * time.Hour / firstHeartbeat {
			l.passes(firstHeartbeat)
			if off := l.off(); off > 25*time.Millisecond {
				t.Fatalf("drift of %v, %v after the login: %v off", drift, l.now-time.Hour, off)
			}
			l.asks()
		}
	}
}

// A good link needs no more than the five samples of the login.
func TestSamplesTaken(t *testing.T) {
	for delay, want := range map[float64]int{20: 5, 98: 5, 102: 10} {
		l := logsIn(func() float64 { return delay }, 0)
		l.passes(time.Minute)
		if l.asked != want {
			t.Errorf("%v ms there and back: %d samples, want %d", 2*delay, l.asked, want)
		}
		if at := l.clock.deadline(false); at != never {
			t.Errorf("%v ms there and back: another sample is due after %v", 2*delay, at-l.now)
		}
	}
}

// After a jump, what was transmitted before says nothing. The bounds stay until a new
// sample has come, and its bounds take the place of theirs, whatever they were.
func TestClockInDoubt(t *testing.T) {
	l := logsIn(func() float64 { return 50 }, 0)
	l.passes(time.Second)
	l.clock.jumped(l.mono())
	l.asks()
	was := l.clock
	if back, first := l.clock.add(l.mono()-1, l.mono(), 0, 0); back != 0 || first || l.clock != was {
		t.Errorf("a sample of before the jump is taken: %+v, before %+v", l.clock, was)
	}
	if !l.clock.doubt || l.clock.deadline(false) != l.mono() || l.clock.deadline(true) != never {
		t.Errorf("after a jump: %+v", l.clock)
	}
	l.passes(time.Second)
	if l.clock.doubt || l.off() > 2*time.Millisecond {
		t.Errorf("after a new sample: %v off, %+v", l.off(), l.clock)
	}
	l.clock.resumed(l.mono())
	if l.clock.since != was.since {
		t.Error("a pause casts doubt on a clock that is in none")
	}
	l.clock.jumped(l.mono())
	at := l.mono()
	l.now += time.Minute // nothing is read
	l.clock.resumed(l.mono())
	l.clock.add(at, l.mono(), l.server()-60_000, l.server()-60_000)
	if !l.clock.doubt || l.clock.deadline(false) != l.mono() {
		t.Errorf("an answer that was read late is taken: %+v", l.clock)
	}
}

// The server's clock is set, and set back: the clock follows at once, and says by how
// much it was set back.
func TestServerClockIsSet(t *testing.T) {
	for _, by := range []int64{3_600_000, -3_600_000, -600, -450, -100} {
		l := logsIn(func() float64 { return 20 }, 0)
		l.passes(time.Minute)
		at := l.server() + by
		back, first := l.clock.add(l.mono()-40*time.Millisecond, l.mono(), at-20, at-20)
		want := time.Duration(max(0, -by)) * time.Millisecond
		if want <= nodesApart {
			want = 0 // it may be another node
		}
		if first || (back-want).Abs() > 2*time.Millisecond {
			t.Errorf("set by %d ms: set back by %v, want %v", by, back, want)
		}
		if got := int64(l.clock.at(Time{Mono: l.mono()})); got < at-2 || got > at+2 {
			t.Errorf("set by %d ms: off by %d ms", by, got-at)
		}
	}
}

func TestLocalTime(t *testing.T) {
	known := clock{known: true} // the server's time since 1970 is Time.Mono
	for _, test := range []struct {
		name       string
		clock      clock
		last, want pim.Millis
	}{
		{"first", known, 0, 5_000_000},
		{"the next", known, 4_999_000, 5_000_000},
		{"in the same millisecond", known, 5_000_000, 5_000_001},
		{"a process before was ahead", known, 5_000_000 + pim.OrderWindow, 5_000_001 + pim.OrderWindow},
		{"the server's clock was set back", known, 5_000_001 + pim.OrderWindow, 5_000_000},
		{"by the wall clock", clock{}, 0, 7_000_000},
		{"by a wall clock that was set back", clock{}, 9_000_000, 9_000_001},
	} {
		if got := test.clock.localTime(Time{Mono: 5000 * time.Second, Wall: 7_000_000}, test.last); got != test.want {
			t.Errorf("%s: %d after %d, want %d", test.name, got, test.last, test.want)
		}
	}
}
