package bustest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// cluster returns what the suite needs of a Network. wrap, if it is not nil, may change what carries the
// frames, and change what a node is.
func cluster(wrap func(link.Network) link.Network, change func(bus.Bus) bus.Bus) *Cluster {
	n := NewNetwork()
	return &Cluster{
		Join: func(name string) bus.Bus {
			var b bus.Bus = n.join(bus.Node{Name: name}, wrap)
			if change != nil {
				b = change(b)
			}
			return b
		},
		Kill: n.Kill, Lose: n.Lose, Heal: n.Heal, Hold: n.Stall,
		Cut: func(a, b string) { n.Partition([]string{a}, []string{b}) },
	}
}

func TestNetwork(t *testing.T) {
	Run(t, Suite{Virtual: true, Open: func(*testing.T) *Cluster { return cluster(nil, nil) }})
}

func TestNetworkWithDelay(t *testing.T) {
	Run(t, Suite{Virtual: true, Open: func(*testing.T) *Cluster {
		n := NewNetwork()
		n.Delay(150 * time.Millisecond)
		return &Cluster{
			Join: func(name string) bus.Bus { return n.Join(bus.Node{Name: name}) },
			Kill: n.Kill, Lose: n.Lose, Heal: n.Heal, Hold: n.Stall,
			Cut: func(a, b string) { n.Partition([]string{a}, []string{b}) },
		}
	}})
}

// TestNetworkWithLoss has a tenth of everything lost: views stay, and after the last message each receiver
// knows whether it has them all.
func TestNetworkWithLoss(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork()
			c := &Cluster{Join: func(name string) bus.Bus { return n.Join(bus.Node{Name: name}) }}
			lossy := testCase{do: func(c *Cluster) error {
				nodes, err := c.three()
				if err != nil {
					return err
				}
				n.LoseShare(0.1, seed)
				for _, word := range numbered("", 100) {
					for _, l := range nodes[1:] {
						if err := sendAll(nodes[0], l.Self(), word); err != nil {
							return err
						}
					}
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(9 * time.Second)
				for _, l := range nodes[1:] {
					if missing := missed(l.heard("a")); missing != "" {
						t.Errorf("seed %d: node %s is not told that %s", seed, l.Self(), missing)
					}
				}
				n.Heal()
				time.Sleep(6 * time.Second)
				return c.inPeace(nodes[:]...)
			}}
			if err := lossy.run(c.inVirtualTime()); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
}

// A node that the network does not reach any more is out of the view after a second and a half, give or take
// a beat; one that only says nothing after link.Silence.
func TestANodeThatIsNotReached(t *testing.T) {
	out := func(how func(n *Network)) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork()
			c := &Cluster{Join: func(name string) bus.Bus { return n.Join(bus.Node{Name: name}) }}
			gone := testCase{do: func(c *Cluster) error {
				nodes, err := c.three()
				if err != nil {
					return err
				}
				how(n)
				begun := time.Now()
				err = nodes[0].sees(patience, "a", "b")
				took = time.Since(begun)
				return err
			}}
			if err := gone.run(c.inVirtualTime()); err != nil {
				t.Error(err)
			}
		})
		return took
	}
	if took := out(func(n *Network) { n.Kill("c") }); took > 2*time.Second+time.Second/2 {
		t.Errorf("a node that is killed is out of the view after %v", took)
	}
	if took := out(func(n *Network) { n.Partition([]string{"a", "b"}, []string{"c"}) }); took < link.Silence-link.Beat || took > link.Silence+link.Beat {
		t.Errorf("a node that is cut off is out of the view after %v", took)
	}
}

// missed returns which of the words 1 to 100 is missing without a gap in its place, "" if none is.
func missed(came []string) string {
	next := numbered("", 100)
	skip := false
	for _, what := range came {
		if what == gap {
			skip = true
			continue
		}
		for len(next) > 0 && next[0] != what {
			if !skip {
				return next[0] + " is missing before " + what
			}
			next = next[1:]
		}
		if len(next) == 0 {
			return what + " came out of order"
		}
		next, skip = next[1:], false
	}
	if len(next) > 0 && !skip {
		return strings.Join(next, ", ") + " are missing at the end"
	}
	return ""
}
