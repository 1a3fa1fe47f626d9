package clock

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// company is some nodes in virtual time. The true time is that of their monotonic clocks.
type company struct {
	t     fataler
	at    time.Duration
	nodes []*member
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// member is a node of a company.
type member struct {
	name   string
	off    time.Duration // of its wall clock
	drift  time.Duration // of it in a second
	cut    bool          // it hears nobody, and nobody hears it
	asks   bool          // in this second, because its clock has jumped
	judge  judge
	course course
	peers  Peers
	sets   int  // how often its time was set
	lost   bool // it does not write
}

// begin returns a company of nodes that have written before they heard each other. Their clocks are off by so much when they start.
func begin(t fataler, offs ...time.Duration) *company {
	c := &company{t: t, at: time.Hour}
	for i, o := range offs {
		c.nodes = append(c.nodes, &member{name: fmt.Sprint(i), off: o})
	}
	for _, n := range c.nodes {
		n.look(c.at)
	}
	return c
}

func (n *member) look(at time.Duration) {
	r := Reading{Wall: at + n.off, Mono: at}
	jumps := n.judge.jumps
	unsteady, wrong := n.judge.take(r)
	jumped := n.judge.jumps > jumps
	n.asks = n.asks || jumped
	unsteady, wrong, set := n.course.take(r, jumped, unsteady, wrong, &n.peers)
	if n.lost = unsteady || wrong || n.course.waits; set != nil {
		n.sets++
	}
}

// time returns how far the node's time is from the true one.
func (n *member) time() time.Duration {
	if n.course.steered || n.lost {
		return n.course.relied
	}
	return n.off
}

// runs lets so many seconds pass. Each node asks all others every five seconds, and at once after a jump. each, if not nil, is called after
// each second.
func (c *company) runs(seconds int, each func()) {
	for range seconds {
		c.at += time.Second
		for _, n := range c.nodes {
			n.off += n.drift
			n.look(c.at)
		}
		for i, n := range c.nodes {
			if !n.asks && (int(c.at/time.Second)+i)%5 != 0 {
				continue
			}
			n.asks = false
			for _, o := range c.nodes {
				if o != n && !n.cut && !o.cut {
					n.peers.Take(o.name, Sample{Offset: o.off, Error: 5 * time.Millisecond}, c.at)
				}
			}
			n.look(c.at)
		}
		if each != nil {
			each()
		}
	}
}

// is checks what has become of a node.
func (c *company) is(what string, node int, off time.Duration, writes bool, sets int) {
	c.t.Helper()
	n := c.nodes[node]
	if (n.time()-off).Abs() > 50*time.Millisecond || n.lost == writes || n.sets != sets {
		c.t.Fatalf("%s: node %d is off by %v, and by %v by its own clock; it writes: %v; its time was set %d times", what, node, n.time(), n.off, !n.lost, n.sets)
	}
}

// joins adds a node that starts now, and writes when it has heard the others.
func (c *company) joins(off time.Duration) {
	n := &member{name: fmt.Sprint(len(c.nodes)), off: off, course: course{waits: true}}
	c.nodes = append(c.nodes, n)
	n.look(c.at)
}

func TestOneOfThreeClocksJumps(t *testing.T) {
	for _, by := range []time.Duration{5 * time.Minute, -5 * time.Minute, time.Second} {
		c := begin(t, 0, 0, 0)
		c.runs(30, nil)
		c.nodes[0].off = by
		c.runs(1, nil)
		c.is("a second later", 0, 0, true, 0)
		c.is("the others do not mind", 1, 0, true, 0)
		c.runs(7200, nil)
		c.is("two hours later", 0, 0, true, 0)
		c.nodes[0].off = 0
		c.runs(1, nil)
		c.is("set right", 0, 0, true, 0)
		if c.runs(30, nil); c.nodes[0].course.carried {
			t.Error("its clock is right, and it does not go by it")
		}
	}
}

func TestOneOfTwoClocksJumps(t *testing.T) {
	c := begin(t, 0, 0)
	c.runs(30, nil)
	c.nodes[0].off = 5 * time.Minute
	c.runs(100, nil)
	c.is("the one that jumped", 0, 0, true, 0)
	c.is("the other one", 1, 0, true, 0)
	c.nodes[1].off = 5 * time.Minute
	c.runs(100, nil)
	c.is("both agree on another time", 0, 5*time.Minute, true, 1)
	c.is("both agree on another time", 1, 5*time.Minute, true, 1)
}

// A node that started with a wrong clock takes the time of the others once. Afterwards it is not set any more.
func TestOneStartsWithAWrongClock(t *testing.T) {
	c := begin(t, -3*time.Minute, 0, 0)
	c.runs(30, nil)
	c.is("it knows", 0, 0, true, 1)
	c.nodes[0].off = 0
	c.runs(30, nil)
	c.is("its clock is set right", 0, 0, true, 1)
	c = begin(t, -3*time.Minute, 0)
	c.runs(30, nil)
	c.is("nobody knows which of two is right", 0, -3*time.Minute, true, 0)
	c.is("nobody knows which of two is right", 1, 0, true, 0)
}

// A node that waits for the others does not write by its own clock, and the first time that it has is not set.
func TestOneJoinsWithAWrongClock(t *testing.T) {
	for _, off := range []time.Duration{-276 * time.Second, 5 * time.Minute, 0} {
		c := begin(t, 0, 0)
		c.runs(30, nil)
		c.joins(off)
		if !c.nodes[2].lost {
			t.Error("it writes before it has heard anybody")
		}
		c.runs(5, nil)
		c.is("it has heard the others", 2, 0, true, 0)
		c.nodes[2].off = 0
		c.runs(30, nil)
		c.is("its clock is set right", 2, 0, true, 0)
	}
}

// All nodes start at once, and the clock of one is wrong.
func TestAllJoin(t *testing.T) {
	c := begin(t)
	for _, off := range []time.Duration{-3 * time.Minute, 0, 0} {
		c.joins(off)
	}
	c.runs(6, nil)
	for i := range c.nodes {
		c.is("they have heard each other", i, 0, true, 0)
	}
}

// A node that waits in vain goes by its own clock, whatever that did meanwhile. When it hears the others afterwards, its time is set.
func TestOneWaitsInVain(t *testing.T) {
	c := begin(t, 0, 0)
	c.joins(-time.Minute)
	n := c.nodes[2]
	n.cut = true
	c.runs(30, nil)
	c.is("it waits", 2, -time.Minute, false, 0)
	n.off = -3 * time.Minute
	c.runs(20, nil)
	c.is("its clock has jumped", 2, -3*time.Minute, false, 0)
	n.course.waits = false
	c.runs(1, nil)
	c.is("it waits no longer", 2, -3*time.Minute, true, 0)
	n.cut = false
	c.runs(6, nil)
	c.is("it hears the others", 2, 0, true, 1)
}

// One of two clocks is wrong, and one node has to wait in vain: nobody knows which is right.
func TestOneOfTwoJoinsWithAWrongClock(t *testing.T) {
	c := begin(t, 0)
	c.joins(-time.Minute)
	c.runs(10, nil)
	c.is("it waits", 1, -time.Minute, false, 0)
	c.joins(0)
	c.runs(10, nil)
	c.is("a third says which is right", 1, 0, true, 0)
	c.is("and has not waited for long", 2, 0, true, 0)
}

// A node whose clock jumps while it hears nobody goes on by the time that others agreed with. One that
// others never agreed with takes its clock's time.
func TestAClockJumpsWhereNobodyIsHeard(t *testing.T) {
	c := begin(t, 0, 0, 0)
	c.runs(30, nil)
	c.nodes[0].cut = true
	c.nodes[0].off = 5 * time.Minute
	c.runs(9, nil)
	c.is("it is not steady", 0, 0, false, 0)
	c.runs(600, nil)
	c.is("it is", 0, 0, true, 0)
	c.nodes[0].cut = false
	c.runs(30, nil)
	c.is("it hears the others again", 0, 0, true, 0)
	c.nodes[0].cut = true
	c.runs(int((carryFor+peerAge)/time.Second)+20, nil)
	c.is("for longer than anybody's word counts", 0, 5*time.Minute, true, 1)

	c = begin(t, 0)
	c.runs(30, nil)
	c.nodes[0].off = time.Minute
	c.runs(9, nil)
	c.is("alone, it is not steady", 0, 0, false, 0)
	c.runs(9, nil)
	c.is("alone", 0, time.Minute, true, 1)
	c.nodes[0].off = 2 * time.Minute
	c.runs(5, nil)
	c.nodes[0].off = time.Minute
	c.runs(15, nil)
	c.is("a jump that is taken back", 0, time.Minute, true, 1)
}

// The machine with all nodes was asleep, while the monotonic clocks stood still.
func TestAllWereAsleep(t *testing.T) {
	c := begin(t, 0, 0, 0)
	c.runs(30, nil)
	for _, n := range c.nodes {
		n.off = 8 * time.Hour
	}
	c.runs(20, nil)
	for i := range c.nodes {
		c.is("they wake up", i, 8*time.Hour, true, 1)
	}
}

// Whatever happens to fewer than half of the clocks, and to the network: no node's time is set, or far from the right one.
func TestMostClocksAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offs := make([]time.Duration, rapid.IntRange(3, 6).Draw(t, "nodes"))
		for i := range offs {
			offs[i] = time.Duration(rapid.IntRange(-20, 20).Draw(t, "right")) * time.Millisecond
		}
		c := begin(t, offs...)
		c.runs(10, nil)
		bad := make(map[int]bool)
		for range rapid.IntRange(1, 12).Draw(t, "faults") {
			i := rapid.IntRange(0, len(offs)-1).Draw(t, "node")
			n := c.nodes[i]
			switch fault := rapid.IntRange(0, 3).Draw(t, "fault"); {
			case fault == 0:
				n.off, n.drift, bad[i] = offs[i], 0, false
			case fault == 1:
				n.cut = !n.cut
			default:
				many := 0
				for j, is := range bad {
					if is && j != i {
						many++
					}
				}
				if 2*(many+1) >= len(offs) {
					continue
				}
				if bad[i] = true; fault == 2 {
					n.off = time.Duration(rapid.IntRange(-300, 300).Draw(t, "jump")) * time.Second
				} else {
					n.drift = time.Duration(rapid.IntRange(-300, 300).Draw(t, "drift")) * time.Millisecond
				}
			}
			c.runs(rapid.IntRange(1, 40).Draw(t, "seconds"), func() {
				for j, n := range c.nodes {
					if n.sets != 0 || n.time().Abs() > Bound {
						t.Fatalf("node %d of %v, bad are %v: its time is off by %v and its clock by %v; set %d times", j, offs, bad, n.time(), n.off, n.sets)
					}
				}
			})
		}
	})
}
