package bustest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

func testOrder(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b, third := nodes[0], nodes[1], nodes[2]
	words := numbered("", 2000)
	var some []string // for the third
	done := make(chan error, 1)
	go func() { done <- sendAll(third, "b", words...) }()
	for i, word := range words {
		kind := kindWord
		if i%3 == 0 {
			kind = kindOther
		}
		body := []byte(word)
		if err := a.Send("b", kind, body); err != nil {
			return err
		}
		clear(body) // it is the caller's again
		if i%10 == 0 {
			if err := sendAll(a, "c", word); err != nil {
				return err
			}
			some = append(some, word)
		}
	}
	if err := <-done; err != nil {
		return err
	}
	for _, from := range []string{"a", "c"} {
		if err := b.hears(from, patience, words...); err != nil {
			return err
		}
	}
	if err := third.hears("a", patience, some...); err != nil {
		return err
	}
	return c.inPeace(nodes[:]...)
}

func testLoss(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	want := []string{gap}
	c.Lose("a", "b", 1)
	if err := sendAll(a, "b", "lost at once"); err != nil {
		return err
	}
	for i := range 20 {
		early, late := fmt.Sprint("early ", i), fmt.Sprint("late ", i)
		if err := sendAll(a, "b", early); err != nil {
			return err
		}
		want = append(want, early)
		if err := b.hears("a", c.soon, want...); err != nil {
			return err
		}
		c.Lose("a", "b", i%3+1)
		if err := sendAll(a, "b", numbered("lost", i%3+1)...); err != nil {
			return err
		}
		if err := sendAll(a, "b", late); err != nil {
			return err
		}
		want = append(want, gap, late)
	}
	if err := b.hears("a", c.soon, want...); err != nil {
		return err
	}
	return c.inPeace(nodes[:]...)
}

func testLossAtEnd(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	for i := range 3 {
		nodes[1].forget()
		if err := sendAll(nodes[0], "b", "1"); err != nil {
			return err
		}
		if err := nodes[1].hears("a", c.soon, "1"); err != nil {
			return err
		}
		c.Lose("a", "b", i+1)
		if err := sendAll(nodes[0], "b", numbered("lost", i+1)...); err != nil {
			return err
		}
		if err := nodes[1].hears("a", c.soon, "1", gap); err != nil {
			return err
		}
	}
	return c.inPeace(nodes[:]...)
}

// testFailedSend has messages fail at the sender, of which the receiver must be told all the same.
func testFailedSend(c *Cluster) error {
	a, err := c.start("a")
	if err != nil {
		return err
	}
	if err := a.Send("b", kindWord, nil); pim.KindOf(err) != pim.KindUnavailable {
		return fmt.Errorf("a message to a node that is not there: %v", err)
	}
	b, err := c.start("b")
	if err != nil {
		return err
	}
	if err := a.sees(patience, "a", "b"); err != nil {
		return err
	}
	if err := sendAll(a, "b", "1"); err != nil {
		return err
	}
	if err := b.hears("a", c.soon, gap, "1"); err != nil {
		return err
	}
	if err := a.Send("b", kindWord, make([]byte, bus.MaxBody+1)); pim.KindOf(err) != pim.KindInvalid {
		return fmt.Errorf("a message that is too large: %v", err)
	}
	if err := b.hears("a", c.soon, gap, "1", gap); err != nil {
		return err
	}
	if err := a.Send("a", kindWord, nil); pim.KindOf(err) != pim.KindInvalid {
		return fmt.Errorf("a message to itself: %v", err)
	}
	return c.inPeace(a, b)
}

func testLargest(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	large := strings.Repeat("0123456789abcdef", bus.MaxBody/16)
	if err := sendAll(a, "b", "small", large, ""); err != nil {
		return err
	}
	if err := b.hears("a", patience, "small", large, ""); err != nil {
		return err
	}
	body := large[:bus.MaxBody-len("a ")]
	answer, err := request(a, "b", kindEcho, body)
	if err != nil {
		return err
	}
	if answer != "a "+body {
		return errors.New("the largest answer came with another content")
	}
	if _, err := request(a, "b", kindEcho, large); pim.KindOf(err) != pim.KindInternal {
		return fmt.Errorf("an answer that is too large: %v", err)
	}
	if _, err := request(a, "b", kindEcho, large+"0"); pim.KindOf(err) != pim.KindInvalid {
		return fmt.Errorf("a request that is too large: %v", err)
	}
	return c.inPeace(nodes[:]...)
}

func testUnheard(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	if err := sendAll(a, "b", "1"); err != nil {
		return err
	}
	for _, kind := range []bus.Kind{0, kindUnheard, 255} {
		if err := a.Send("b", kind, []byte("from a later version")); err != nil {
			return err
		}
	}
	if err := sendAll(a, "b", "2"); err != nil {
		return err
	}
	if err := b.hears("a", c.soon, "1", "2"); err != nil {
		return err
	}
	return c.inPeace(nodes[:]...)
}

// flood sends n messages of a MiB, which begin with a number from first on, and none of which may wait. It returns how many were taken.
func (c *Cluster) flood(from *listener, to string, first, n int) (taken int, err error) {
	rest := strings.Repeat("x", 1<<20)
	for i := range n {
		body := fmt.Append(nil, first+i, rest)
		begin := time.Now()
		err := from.Send(to, kindWord, body)
		switch took := time.Since(begin); {
		case took > c.quick:
			return taken, fmt.Errorf("a message that should not wait took %s", took)
		case err == nil:
			taken++
		case pim.KindOf(err) != pim.KindUnavailable:
			return taken, err
		}
	}
	return taken, nil
}

// gapsToldOf checks what came of a flood: numbers from 0 on, in their order, and a gap wherever some are missing. The flood was of n.
func gapsToldOf(came []string, n int) error {
	next, told := 0, false
	for _, what := range append(slices.Clone(came), strconv.Itoa(n)) {
		if what == gap {
			told = true
			continue
		}
		number, err := strconv.Atoi(strings.TrimRight(what, "x"))
		switch {
		case err != nil:
			return breach{fmt.Errorf("%.20q came, which nobody has sent", what)}
		case number < next:
			return breach{fmt.Errorf("message %d comes behind message %d", number, next-1)}
		case number > next && !told:
			return breach{fmt.Errorf("messages %d to %d are missing without a gap", next, number-1)}
		}
		next, told = number+1, false
	}
	return nil
}

// testFullNetwork has messages wait at the sender. Its queue and the receiver's have the same bound: a receiver that does
// nothing while they come all at once may lose some of those that were taken.
func testFullNetwork(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	c.Hold("a", true)
	taken, err := c.flood(a, "b", 0, 100)
	c.Hold("a", false)
	if err != nil {
		return err
	}
	if taken == 100 {
		return errors.New("100 MiB were taken while nothing could be sent; there is no bound")
	}
	if err := b.wait(patience, "what was taken, and a gap", func() bool {
		came := b.came["a"]
		return len(came) > 1 && came[len(came)-1] == gap
	}); err != nil {
		return err
	}
	if err := c.behind(a, b); err != nil {
		return err
	}
	came := b.heard("a")
	if err := gapsToldOf(came[:len(came)-1], 100); err != nil {
		return err
	}
	if n, least := len(came)-2, taken/2; n < least || c.exact && n != taken { // without a gap and the message behind
		return fmt.Errorf("%d messages came of %d that were taken", n, taken)
	}
	return c.inPeace(nodes[:]...)
}

// behind sends a message as soon as it is taken, and waits until it comes as the last one.
func (c *Cluster) behind(from, to *listener) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := sendAll(from, to.Self(), "behind")
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return err
		}
	}
	return to.wait(patience, "the message behind", func() bool {
		came := to.came[from.Self()]
		return len(came) > 0 && came[len(came)-1] == "behind"
	})
}

func testSlowReceiver(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	release := b.holdUp()
	defer release()
	taken := 0
	for i := range 10 { // more slowly than the network
		n, err := c.flood(a, "b", 10*i, 10)
		if err != nil {
			return err
		}
		taken += n
		time.Sleep(300 * time.Millisecond)
	}
	if err := sendAll(nodes[2], "a", "not held up"); err != nil {
		return err
	}
	if err := a.hears("c", c.soon, "not held up"); err != nil {
		return err
	}
	release()
	if err := b.wait(patience, "some messages and a gap", func() bool { return b.gaps("a") > 0 }); err != nil {
		return err
	}
	if err := c.behind(a, b); err != nil {
		return err
	}
	came := b.heard("a")
	if err := gapsToldOf(came[:len(came)-1], 100); err != nil {
		return err
	}
	if n := len(came); n > taken/2 {
		return fmt.Errorf("%d of %d MiB came at a receiver that took nothing while they were sent; there is no bound", n, taken)
	}
	for _, l := range nodes {
		if err := l.sees(c.soon, "a", "b", "c"); err != nil {
			return err
		}
	}
	return c.inPeace(nodes[:]...)
}
