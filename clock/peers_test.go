package clock_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim/clock"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// judged returns what Judge says of peers whose offsets are known to within 1 ms.
func judged(offsets ...time.Duration) string {
	var p clock.Peers
	for i, o := range offsets {
		p.Take(fmt.Sprint("p", i+1), clock.Sample{Offset: o, Error: ms}, 0)
	}
	return fmt.Sprint(p.Judge(0))
}

func TestPeersSayWhoseClockIsOff(t *testing.T) {
	for _, c := range []struct {
		what    string
		offsets []time.Duration
		want    string
	}{
		{"no peers", nil, "[]"},
		{"one that agrees", []time.Duration{90 * ms}, "[]"},
		{"one that does not: nobody knows who is wrong", []time.Duration{300 * ms}, "[{p1 300ms false}]"},
		{"one of two", []time.Duration{0, -300 * ms}, "[{p2 -300ms true}]"},
		{"this node, as two say", []time.Duration{300 * ms, 300 * ms}, "[{ -300ms true}]"},
		{"three that do not agree", []time.Duration{300 * ms, -300 * ms}, "[{p1 300ms false} {p2 -300ms false}]"},
		{"two against two", []time.Duration{0, 300 * ms, 300 * ms}, "[{p2 300ms false} {p3 300ms false}]"},
		{"this node and another", []time.Duration{300 * ms, 300 * ms, 300 * ms, -time.Second}, "[{ -300ms true} {p4 -1.3s true}]"},
		{"just within the bound", []time.Duration{0, 0, 101 * ms}, "[]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := judged(c.offsets...); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// A clock near the bound is not called off and right again with each sample.
func TestPeersAreCalm(t *testing.T) {
	var p clock.Peers
	p.Take("right", clock.Sample{}, 0)
	for i, c := range []struct {
		offset time.Duration
		off    int
	}{{99 * ms, 0}, {101 * ms, 1}, {99 * ms, 1}, {76 * ms, 1}, {74 * ms, 0}, {99 * ms, 0}} {
		p.Take("other", clock.Sample{Offset: c.offset}, 0)
		if got := p.Judge(0); len(got) != c.off {
			t.Errorf("step %d, at %v: %v", i, c.offset, got)
		}
	}
}

// Samples of peers that have gone, and old ones, do not count.
func TestPeersForget(t *testing.T) {
	var p clock.Peers
	p.Take("gone", clock.Sample{}, 59*time.Second)
	p.Take("old", clock.Sample{}, 0)
	p.Take("there", clock.Sample{}, 59*time.Second)
	p.Forget(func(peer string) bool { return peer != "gone" }, 61*time.Second)
	if got := p.Samples(); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

// However a question and its answer travel, the true offset is within the error.
func TestSampleBoundsTheOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		any := func(what string, least, most int64) time.Duration {
			return time.Duration(rapid.Int64Range(least, most).Draw(t, what))
		}
		offset, there, held, back := any("offset", -1e12, 1e12), any("there", 0, 1e10), any("held", 0, 1e9), any("back", 0, 1e10)
		asked := any("asked", 0, 1e18)
		came := asked + there + offset
		s := clock.SampleOf(asked, there+held+back, came, came+held)
		if off := (s.Offset - offset).Abs(); off > s.Error+1 { // halves are rounded
			t.Fatalf("%v of %v, which is off by %v", s, offset, off)
		}
	})
}

// Whatever the network does: if all clocks are within the bound of each other, none is called off. If most are,
// none of these is, by those that have a vote; and one that is far off is.
func TestPeersCallNoRightClockOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		right := func() time.Duration {
			return time.Duration(rapid.Int64Range(-int64(20*ms), int64(20*ms)).Draw(t, "right"))
		}
		wrong := func() time.Duration {
			far := time.Duration(rapid.Int64Range(int64(400*ms), int64(time.Hour)).Draw(t, "wrong"))
			if rapid.Bool().Draw(t, "behind") {
				return -far
			}
			return far
		}
		n := rapid.IntRange(2, 12).Draw(t, "peers")
		bad := rapid.IntRange(0, n/2).Draw(t, "bad") // of n + 1 clocks
		self := rapid.IntRange(0, n).Draw(t, "self")
		offs := make([]time.Duration, n+1) // from the true time
		for i := range offs {
			if offs[i] = right(); i < bad {
				offs[i] = wrong()
			}
		}
		var p clock.Peers
		for i, o := range offs {
			if i == self {
				continue
			}
			e := time.Duration(rapid.Int64Range(0, int64(50*ms)).Draw(t, "error"))
			if i < bad {
				e = time.Duration(rapid.Int64Range(0, int64(100*ms)).Draw(t, "error"))
			}
			within := time.Duration(rapid.Int64Range(-int64(e), int64(e)).Draw(t, "within"))
			p.Take(fmt.Sprint(i), clock.Sample{Offset: o - offs[self] + within, Error: e}, 0)
		}
		called := make(map[string]bool)
		for _, o := range p.Judge(0) {
			called[o.Node] = true
			if !o.Sure {
				t.Fatalf("not sure of %v, though %d of %d clocks agree", o, n+1-bad, n+1)
			}
		}
		for i := range offs {
			name := fmt.Sprint(i)
			if i == self {
				name = ""
			}
			if called[name] != (i < bad) {
				t.Fatalf("clock %d of %v, bad are %d, self is %d: called off: %v", i, offs, bad, self, called[name])
			}
		}
	})
}
