package bustest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/bus"
)

// Cluster is what the suite needs of an implementation. Nodes have the names that the suite gives them,
// all roles and a Weight of 1.
type Cluster struct {
	Join func(name string) bus.Bus    // a node that has not started; a later one of a name has a greater Run
	Kill func(name string)            // ends the newest node of that name without a word to the others
	Lose func(from, to string, n int) // has the next n messages from one node to another lost
	Cut  func(a, b string)            // has everything between two nodes lost, in both directions
	Heal func()                       // ends all cuts
	Hold func(name string, on bool)   // has what a node sends wait inside it, as with a network that is full
	Over func()                       // called at the end, when all nodes are closed; may be nil

	open  []*listener   // to close at the end
	soon  time.Duration // for what should take a second or two
	quick time.Duration // for a call that never waits
	calm  time.Duration // before a peace, for what is on its way to a Handler
	peace time.Duration // for which a peace is watched
	exact bool          // nothing but the suite holds a node up
	tries int           // to find peace
}

// Suite says how to test an implementation.
type Suite struct {
	Open func(t *testing.T) *Cluster // a cluster without nodes, for one test
	// Virtual says that nothing is outside the process. So tests run in a bubble of testing/synctest and
	// judge how long things take. Without it they run in parallel, and judge only what comes.
	Virtual bool
}

// Run tests an implementation of bus.Bus.
func Run(t *testing.T, s Suite) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if s.Virtual {
				synctest.Test(t, func(t *testing.T) {
					if err := c.run(s.Open(t).inVirtualTime()); err != nil {
						t.Error(err)
					}
				})
				return
			}
			t.Parallel()
			for try := 1; ; try++ {
				err := c.run(s.Open(t).inRealTime())
				if err == nil {
					return
				}
				if try == realTries || errors.As(err, new(breach)) {
					t.Fatal(err)
				}
				t.Log("is played again:", err)
			}
		})
	}
}

// inVirtualTime has the suite judge times.
func (c *Cluster) inVirtualTime() *Cluster {
	c.soon, c.quick, c.calm, c.peace, c.tries, c.exact = 3*time.Second, 500*time.Millisecond, time.Second, 5*time.Second, 1, true
	return c
}

// inRealTime has the suite judge only what comes, since the machine may have other things to do: so many that a node does nothing
// for seconds, and the others take it for gone.
func (c *Cluster) inRealTime() *Cluster {
	c.soon, c.quick, c.peace, c.tries = patience, patience, 2500*time.Millisecond, 10
	return c
}

// realTries is how often a case is played in real time before it has failed, unless it finds a breach. A node that its machine holds up for
// seconds is taken for gone, and what then comes, a gap, is right. Virtual time has no such excuse.
const realTries = 3

// breach is an error that no node's being held up explains: what came is not what was sent, in its order, with a gap where some is missing.
type breach struct{ error }

type testCase struct {
	name string
	do   func(c *Cluster) error
}

// run plays a case, and closes all nodes at its end.
func (tc *testCase) run(c *Cluster) error {
	defer func() {
		for _, l := range c.open {
			l.Close()
		}
		if c.Over != nil {
			c.Over()
		}
	}()
	return tc.do(c)
}

// start starts a node.
func (c *Cluster) start(name string) (*listener, error) {
	l, err := listen(c.Join(name))
	if l != nil {
		c.open = append(c.open, l)
	}
	return l, err
}

// patience is how long the suite waits for what may hang.
const patience = 30 * time.Second

// three starts nodes a, b and c, and waits until each sees the others.
func (c *Cluster) three() (nodes [3]*listener, err error) {
	for i, name := range []string{"a", "b", "c"} {
		if nodes[i], err = c.start(name); err != nil {
			return nodes, err
		}
	}
	for _, l := range nodes {
		if err := l.sees(patience, "a", "b", "c"); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// sendAll sends messages of kindWord, and fails with the first that fails.
func sendAll(from *listener, to string, bodies ...string) error {
	for _, body := range bodies {
		if err := from.Send(to, kindWord, []byte(body)); err != nil {
			return fmt.Errorf("sending %.20q from %s to %s: %w", body, from.Self(), to, err)
		}
	}
	return nil
}

// numbered returns n bodies: prefix1, prefix2 ….
func numbered(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(prefix, i+1)
	}
	return list
}

// inPeace sends a message between any two of the nodes, in both directions, and has no gap come before it
// nor for some seconds behind it. A gap that is older may still be on its way to its Handler, although
// the view has changed already.
func (c *Cluster) inPeace(nodes ...*listener) (err error) {
	for range c.tries {
		if err = c.onePeace(nodes); err == nil {
			break
		}
	}
	return err
}

func (c *Cluster) onePeace(nodes []*listener) error {
	time.Sleep(c.calm)
	for _, l := range nodes {
		l.forget()
	}
	for _, from := range nodes {
		for _, to := range nodes {
			if from != to {
				if err := sendAll(from, to.Self(), "peace"); err != nil {
					return err
				}
			}
		}
	}
	time.Sleep(c.peace)
	for _, from := range nodes {
		for _, to := range nodes {
			if from != to {
				if err := to.hears(from.Self(), c.soon, "peace"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func viewHas(v *bus.View, want bus.Node) error {
	got := v.Node(want.Name)
	if got == nil {
		return fmt.Errorf("node %s is not in the view", want.Name)
	}
	want.Run = got.Run
	if *got != want {
		return fmt.Errorf("the view has %+v, not %+v", *got, want)
	}
	return nil
}

var cases = []testCase{
	{"views", testViews},
	{"leaving", testLeaving},
	{"loss before leaving", testLossBeforeLeaving},
	{"dying", testDying},
	{"restart", testRestart},
	{"cut", testCut},
	{"order", testOrder},
	{"loss", testLoss},
	{"loss at the end of a burst", testLossAtEnd},
	{"sends that fail", testFailedSend},
	{"largest body", testLargest},
	{"kinds that nobody handles", testUnheard},
	{"network that is full", testFullNetwork},
	{"slow receiver", testSlowReceiver},
	{"requests", testRequests},
	{"requests that fail", testRequestErrors},
	{"requests to a node that dies", testRequestDying},
	{"closing", testClosing},
}

func testViews(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	a.mu.Lock()
	first := names(a.views[0])
	a.mu.Unlock()
	if !slices.Equal(first, []string{"a"}) {
		return fmt.Errorf("the first view of a node that is alone is %v", first)
	}
	want := *a.View().Node("a")
	want.Site, want.Roles, want.Weight, want.Draining, want.Address = "west", bus.RoleGateway, 7, true, "https://a.example"
	a.Update(func(n *bus.Node) {
		run := n.Run
		*n = want
		n.Name, n.Run, n.Protocol = "other", run+1, 99
	})
	for _, l := range []*listener{a, b} {
		if err := l.wait(c.soon, "the change of node a", func() bool { return viewHas(l.views[len(l.views)-1], want) == nil }); err != nil {
			return errors.Join(err, viewHas(l.View(), want))
		}
	}
	want.Load = bus.Load{Connections: 3, MaxConnections: 10, AcceptRate: 200, Memory: 1 << 40, WebSocket: 6000, TCP: 5000, Unready: true}
	a.Update(func(n *bus.Node) { n.Load = want.Load })
	for end := time.Now().Add(patience); viewHas(b.View(), want) != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return viewHas(b.View(), want)
		}
	}
	return c.inPeace(nodes[:]...)
}

func testLeaving(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	words := numbered("", 200)
	a, last := nodes[0], nodes[2]
	release := last.holdUp()
	defer release()
	if err := sendAll(a, "c", words...); err != nil {
		return err
	}
	if _, err := request(a, "c", kindEcho, ""); err != nil { // which comes after the words
		return err
	}
	for _, to := range nodes[:2] {
		if err := sendAll(last, to.Self(), words...); err != nil {
			return err
		}
	}
	release()
	last.Close()
	if got := last.heard("a"); !slices.Equal(got, words) {
		return fmt.Errorf("of %d messages that had arrived, the node that closes has taken %d", len(words), len(got))
	}
	for _, l := range nodes[:2] {
		if err := l.sees(c.soon, "a", "b"); err != nil {
			return err
		}
		if err := l.hears("c", c.soon, words...); err != nil {
			return err
		}
	}
	time.Sleep(c.peace)
	for _, l := range nodes[:2] {
		if n := l.gaps("c"); n != 0 {
			return fmt.Errorf("%d gaps of a node that has closed, all of whose messages came", n)
		}
	}
	return c.inPeace(nodes[:2]...)
}

func testLossBeforeLeaving(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	c.Lose("c", "a", 2)
	for _, to := range nodes[:2] {
		if err := sendAll(nodes[2], to.Self(), "1", "2"); err != nil {
			return err
		}
	}
	nodes[2].Close()
	if err := nodes[0].hears("c", c.soon, gap); err != nil {
		return err
	}
	if err := nodes[1].hears("c", c.soon, "1", "2"); err != nil {
		return err
	}
	again, err := c.start("c") // a run that comes later is no gap
	if err != nil {
		return err
	}
	for _, l := range []*listener{nodes[0], nodes[1], again} {
		if err := l.sees(patience, "a", "b", "c"); err != nil {
			return err
		}
	}
	for i, want := range []int{1, 0} {
		if n := nodes[i].gaps("c"); n != want {
			return fmt.Errorf("%d gaps of a node that has closed and is there again, want %d", n, want)
		}
	}
	return c.inPeace(nodes[0], nodes[1], again)
}

func testDying(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	c.Kill("c")
	for _, l := range nodes[:2] {
		if err := l.sees(2*c.soon, "a", "b"); err != nil {
			return err
		}
		if err := l.hears("c", c.soon, gap); err != nil {
			return err
		}
	}
	if err := nodes[0].Send("c", kindWord, nil); err == nil {
		return errors.New("a message to a node that has died and is not in the view is taken")
	}
	return c.inPeace(nodes[:2]...)
}

func testRestart(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a := nodes[0]
	if err := sendAll(a, "b", "1", "2"); err != nil {
		return err
	}
	if err := nodes[1].hears("a", c.soon, "1", "2"); err != nil {
		return err
	}
	if err := sendAll(nodes[1], "a", "1", "2"); err != nil {
		return err
	}
	if err := a.hears("b", c.soon, "1", "2"); err != nil {
		return err
	}
	run := a.View().Node("b").Run
	c.Kill("b")
	b, err := c.start("b")
	if err != nil {
		return err
	}
	if err := a.hears("b", patience, "1", "2", gap); err != nil {
		return err
	}
	for _, l := range []*listener{a, b, nodes[2]} {
		if err := l.wait(patience, "a later run of node b", func() bool {
			n := l.View().Node("b")
			return n != nil && n.Run > run
		}); err != nil {
			return err
		}
		if err := l.sees(patience, "a", "b", "c"); err != nil {
			return err
		}
	}
	if got := b.heard("a"); len(got) != 0 {
		return fmt.Errorf("a node that has just started hears %q of one that has said nothing yet", got)
	}
	return c.inPeace(a, b, nodes[2])
}

func testCut(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	c.Cut("a", "c")
	c.Cut("b", "c")
	if err := sendAll(nodes[0], "c", "lost"); err != nil {
		return err
	}
	for _, l := range nodes[:2] {
		if err := l.sees(4*c.soon, "a", "b"); err != nil {
			return err
		}
		if err := l.hears("c", c.soon, gap); err != nil {
			return err
		}
	}
	if err := nodes[2].sees(4*c.soon, "c"); err != nil {
		return err
	}
	if err := nodes[2].hears("a", c.soon, gap); err != nil {
		return err
	}
	c.Heal()
	for _, l := range nodes {
		if err := l.sees(patience, "a", "b", "c"); err != nil {
			return err
		}
	}
	time.Sleep(3 * time.Second) // in which what was lost is told of again, if it is
	if n := len(nodes[2].heard("a")); n < 1 || n > 2 {
		return fmt.Errorf("%d gaps of a node that was out of reach once and lost one message", n)
	}
	return c.inPeace(nodes[:]...)
}
