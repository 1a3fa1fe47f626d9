package engine

import (
	"time"

	"github.com/pim-im/pim"
)

// samplesAt is when samples are taken after Welcome, which is one itself, and
// after a jump. They do not wait for each other's answers: otherwise, on a link of 700 ms
// there and back, a message sent after a second would rely on one or two samples. The
// samples after loginSamples are taken only while the clock is not known to accuracy.
var samplesAt = [...]time.Duration{
	0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
	time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second,
}

const (
	loginSamples = 5
	accuracy     = 100 * time.Millisecond
	jumpAtLeast  = 500 * time.Millisecond // of the wall clock against the monotonic one
	driftPart    = 20_000                 // 1/20,000 is 50 ppm: two oscillators against each other

	// slowWelcome is how far apart the bounds may be that Welcome gives. A Hello may have waited for seconds at a node that has just started, or
	// has lost another one: the middle is off by half of that, and local times that are ahead by more than OrderSlack are cut.
	slowWelcome = time.Duration(pim.OrderSlack) * time.Millisecond

	// nodesApart is by how much another server's clock may be behind without that counting as set back.
	nodesApart = time.Duration(pim.NodesApart) * time.Millisecond
)

// clock estimates the server's clock: its offset, the server's time since 1970
// minus Time.Mono. It is anchored to the monotonic clock, so a jump of the wall
// clock does not move it.
//
// A frame that is transmitted at t1 arrives at t2 > t1, so the offset is below
// t2−t1; and its answer, transmitted at t3, arrives at t4, so it is above t3−t4.
// Each sample narrows these bounds, and the estimate is their middle: it takes
// the fastest way there of one sample and the fastest way back of another. The
// textbook's best round trip needs both in one. Errors in ms at p50/p95/p99, one
// way 200–500 ms, so long after Welcome (TestCalibration):
//
//	                        1 s         1.5 s          10 s
//	best round trip   36 103 129    33 102 123    25 80 105
//	bounds            22  72  95    20  66  86    12 41  57
//
// The bounds widen as oscillators drift, so that old samples give way.
type clock struct {
	low, high time.Duration // the offset is between them
	setAt     time.Duration // when low and high were set
	known     bool          // low and high are set; until then the wall clock serves

	// doubt says that no sample was taken since a jump, or on this connection: the
	// monotonic clock may have stood still since the last one. Or Welcome is the only one of this connection, and was slow.
	doubt bool
	since time.Duration // samples that were transmitted before this time are void
	begun time.Duration // when samplesAt counts from
	taken int           // how many of samplesAt were taken
}

// add takes a sample: transmitted at t1 and received at t4 on the monotonic
// clock, received and answered at t2 and t3 on the server's. If the sample says
// that the server's clock was set back, it returns by how much; first says that the
// clock was not known before.
func (c *clock) add(t1, t4 time.Duration, t2, t3 int64) (back time.Duration, first bool) {
	if t1 < c.since || t1 > t4 {
		return 0, false
	}
	// t2 is cut to milliseconds: the frame arrived up to 1 ms later.
	low, high := time.Duration(t3)*time.Millisecond-t4, time.Duration(t2+1)*time.Millisecond-t1
	low, high = min(low, high), max(low, high) // unless the server's clock jumped in between, they are in order
	if c.known {
		drift := (t4 - c.setAt) / driftPart
		switch l, h := max(low, c.low-drift), min(high, c.high+drift); {
		case l > h: // the server's clock has jumped: the newest sample is right
			// A monotonic clock that stood still looks like a jump forward.
			if c.low-drift-high > nodesApart {
				back = (c.low+c.high)/2 - (low+high)/2
			}
		case !c.doubt:
			low, high = l, h
		}
	}
	first = !c.known
	c.low, c.high, c.setAt = low, high, t4
	c.known, c.doubt = true, false
	return back, first
}

// at returns the server's time at now, as well as it is known.
func (c *clock) at(now Time) pim.Millis {
	if !c.known {
		return now.Wall
	}
	return millis(now.Mono + c.low + (c.high-c.low)/2)
}

// dueAt returns when the next sample is to be taken.
func (c *clock) dueAt() time.Duration {
	accurate := !c.doubt && c.high-c.low <= 2*accuracy
	if c.taken == len(samplesAt) || c.taken >= loginSamples && accurate {
		return never
	}
	return c.begun + samplesAt[c.taken]
}

// deadline returns when takeDue is to be called; never while the shell does not read.
func (c *clock) deadline(paused bool) time.Duration {
	if paused {
		return never
	}
	return c.dueAt()
}

// takeDue reports whether a sample is to be taken now. If several are due, one is taken for all.
func (c *clock) takeDue(now time.Duration) bool {
	due := now >= c.dueAt()
	for now >= c.dueAt() {
		c.taken++
	}
	return due
}

// calibrate starts over on a new connection, whose Hello was transmitted at t1, and whose
// Welcome came at t4 and was transmitted at welcome by the server's clock. The samples of
// the connection before may be older than a sleep, in which the monotonic clock stood
// still. It returns what add returns. If Welcome was slow, first transmissions wait for another sample.
func (c *clock) calibrate(t1, t4 time.Duration, welcome int64) (back time.Duration, first bool) {
	c.doubt = true
	back, first = c.add(t1, t4, welcome, welcome)
	c.doubt = c.doubt || c.high-c.low > slowWelcome
	c.anew(t4)
	return back, first
}

// anew makes samplesAt count from now.
func (c *clock) anew(now time.Duration) { c.begun, c.taken = now, 0 }

// jumped takes a jump of the wall clock against the monotonic one. Either the wall clock
// was set, or the device slept while the monotonic clock stood still; nobody can tell, so
// what was known is in doubt, and first transmissions wait for a new sample. Before
// Welcome nothing is transmitted anyway.
func (c *clock) jumped(now time.Duration) {
	c.since, c.doubt = now, c.known
	c.anew(now)
}

// resumed goes on after a pause. A sample whose answer was read late does no harm to
// bounds that hold already. While they are in doubt, only a new sample will do.
func (c *clock) resumed(now time.Duration) {
	if c.doubt {
		c.since = now
		c.anew(now)
	}
}

// localTime returns the local time of a message that is first transmitted now; last is
// that of the message before. It grows strictly on a device, over restarts too, unless
// the server's clock was set back, see clock.add. If the local times were held then, they would hardly
// grow for as long as the clock was set back, and a message that is sent again would find
// no place among them. Where another node is only a little behind they are held: otherwise what is sent just
// after a device has moved to it would be displayed before what was sent just before.
func (c *clock) localTime(now Time, last pim.Millis) pim.Millis {
	at := c.at(now)
	if c.known && last-at > pim.OrderWindow {
		return at // the server's clock was set back before this process looked
	}
	return max(at, last+1)
}

func millis(d time.Duration) pim.Millis { return pim.Millis(d / time.Millisecond) }
