package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/clock"
	"github.com/prometheus/client_golang/prometheus"
)

// wallClock is a clock that is off by what the test says.
type wallClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *wallClock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

// clockNode is a node that has nothing but peerClocks.
type clockNode struct {
	wall wallClock
	*peerClocks
	log   bytes.Buffer // read while all wait
	asked int          // requests; likewise
}

// newClockNode starts a node that has known the time for long.
func newClockNode(t *testing.T, network *bustest.Network, name string) *clockNode {
	return startClockNode(t, network, name, false, 0)
}

// startClockNode starts a node. Its clock is off, and it may have to wait for the time of the others.
func startClockNode(t *testing.T, network *bustest.Network, name string, waits bool, off time.Duration) *clockNode {
	n := new(clockNode)
	n.wall.set(off)
	b := network.Join(bus.Node{Name: name})
	watch := clock.New(clock.Options{
		Wait:   waits,
		Source: clock.Source{Now: n.wall.now, Kernel: func() (clock.Kernel, error) { return clock.Kernel{Synchronised: true}, nil }},
		Logger: slog.New(slog.DiscardHandler),
	})
	n.peerClocks = newPeerClocks(b, watch, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&n.log, nil)))
	var mu sync.Mutex
	err := b.Start(t.Context(), &bus.Handler{Answer: map[bus.Kind]func(context.Context, string, []byte) ([]byte, error){
		bus.KindStatus: func(context.Context, string, []byte) ([]byte, error) {
			mu.Lock()
			n.asked++
			mu.Unlock()
			now := n.wall.now().UnixNano()
			return json.Marshal(clockAnswer{now, now})
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(func() {
		n.close()
		watch.Close()
		b.Close()
	})
	return n
}

// said returns what the node has logged since, without times.
func (n *clockNode) said() string {
	n.peerClocks.mu.Lock()
	defer n.peerClocks.mu.Unlock()
	var lines []string
	for line := range strings.Lines(n.log.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), "level=")
		lines = append(lines, line)
	}
	n.log.Reset()
	return strings.Join(lines, "\n")
}

// Three nodes on a network on which all takes 30 ms. The clock of one is set wrong, and right again; then a node goes.
func TestNodesWatchEachOthersClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := bustest.NewNetwork()
		network.Delay(30 * time.Millisecond)
		a, b, c := newClockNode(t, network, "a"), newClockNode(t, network, "b"), newClockNode(t, network, "c")
		expect := func(n *clockNode, want string) {
			t.Helper()
			if got := n.said(); got != want {
				t.Errorf("the node says\n%s\nwant\n%s", got, want)
			}
		}
		// rounds lets some time pass, in which each node asks.
		rounds := func() {
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
		rounds()
		for _, n := range []*clockNode{a, b, c} {
			expect(n, "")
		}
		c.wall.set(-300 * time.Millisecond)
		rounds()
		for _, n := range []*clockNode{a, b} {
			expect(n, `WARN msg="the clock of another node is off, by what most nodes say" node=c by=-300ms`)
		}
		expect(c, `ERROR msg="this node's clock is off, by what most other nodes say: set it" by=-300ms`)
		c.wall.set(50 * time.Millisecond)
		rounds()
		expect(a, `INFO msg="the clock of another node is no longer off" node=c`)
		expect(c, `INFO msg="this node's clock is no longer off"`)
		c.wall.set(-time.Hour)
		rounds()
		a.said()
		network.Kill("c")
		rounds()
		expect(a, "")
		if len(a.peers.Samples()) != 1 {
			t.Errorf("samples of nodes that have gone: %v", a.peers.Samples())
		}
	})
}

// A second after its clock has jumped, a node writes again, and goes by the time of the others, for as long as its clock is off. One
// that nobody answers takes the wrong time.
func TestANodeGoesByTheTimeOfTheOthers(t *testing.T) {
	for _, heard := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			network := bustest.NewNetwork()
			network.Delay(30 * time.Millisecond)
			a := newClockNode(t, network, "a")
			if heard {
				newClockNode(t, network, "b")
				newClockNode(t, network, "c")
			}
			time.Sleep(30 * time.Second)
			a.wall.set(5 * time.Minute)
			if a.own.Gate() == nil {
				t.Error("it writes before it knows which time is right")
			}
			time.Sleep(time.Second)
			if writes := a.own.Gate() == nil; writes != heard {
				t.Errorf("a second later it writes: %v", writes)
			}
			time.Sleep(time.Minute)
			off := time.Until(a.own.Relied())
			_, _, set := a.own.Jumped()
			if (off.Abs() < 50*time.Millisecond) != heard || set == heard {
				t.Errorf("it hears others: %v; its time is off by %v, and was set: %v", heard, off, set)
			}
		})
	}
}

// A node whose clock is wrong when it starts goes by the time of the others from the beginning, so its time was never set. One that
// is alone does not wait, and one that does not find out which clock is wrong waits for some seconds.
func TestANodeThatStartsWaitsForTheTime(t *testing.T) {
	const wrong = -276 * time.Second
	for _, test := range []struct {
		others      int
		least, most time.Duration // that it waits
		off         time.Duration // of its time afterwards
	}{
		{0, 0, 0, wrong},
		{1, awaitClocks, awaitClocks, wrong},
		{2, 100 * time.Millisecond, time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			network := bustest.NewNetwork()
			network.Delay(30 * time.Millisecond)
			for i := range test.others {
				newClockNode(t, network, string(rune('a'+i)))
			}
			time.Sleep(time.Minute)
			n := startClockNode(t, network, "new", true, wrong)
			for len(otherNodes(n.bus)) < test.others {
				time.Sleep(time.Millisecond)
			}
			if n.own.Gate() == nil {
				t.Error("it writes before it knows the time")
			}
			begun := time.Now()
			n.await(t.Context())
			if took := time.Since(begun); took < test.least || took > test.most {
				t.Errorf("with %d others it waits for %v", test.others, took)
			}
			time.Sleep(time.Minute)
			if _, _, set := n.own.Jumped(); n.own.Gate() != nil || set || (time.Until(n.own.Relied())-test.off).Abs() > 50*time.Millisecond {
				t.Errorf("with %d others: it writes: %v; its time was set: %v, and is off by %v", test.others, n.own.Gate() == nil, set, time.Until(n.own.Relied()))
			}
		})
	}
}

// However many nodes there are, a node asks eight of them each five seconds.
func TestClocksCostTheSameInLargeClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := bustest.NewNetwork()
		const nodes = 24
		var all []*clockNode
		for i := range nodes {
			all = append(all, newClockNode(t, network, "n"+string(rune('a'+i))))
		}
		time.Sleep(time.Minute)
		for _, n := range all {
			n.close()
		}
		synctest.Wait()
		asked := 0
		for _, n := range all {
			asked += n.asked
		}
		if each := asked / nodes; each < 8*10 || each > 8*15 {
			t.Errorf("each node asks %d times a minute", each)
		}
	})
}
