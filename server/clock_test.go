package server_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
)

// handSet is a clock that only the test moves.
type handSet struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func (c *handSet) source() clock.Source {
	return clock.Source{
		Now: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.wall
		},
		Mono: func() time.Duration {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.mono
		},
		Kernel: func() (clock.Kernel, error) { return clock.Kernel{Synchronised: true}, nil },
	}
}

func (c *handSet) now() time.Time { return c.source().Now() }

func (c *handSet) jumps(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

func (c *handSet) runs(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// The server's clock jumps, forward and back. What is sent then waits until the clock has been
// steady, and server times do not go back.
func TestClockIsOff(t *testing.T) {
	c := &handSet{wall: time.Now(), mono: time.Hour}
	n := start(t, config(t), server.Options{Clock: c.source()})
	alice, bob := n.connect("alice", "1", "http"), n.connect("bob", "1", "tcp")
	chat := pim.Direct("alice", "bob")
	last := alice.says(chat, "before")
	want := []string{"before"}
	for _, by := range []time.Duration{2 * time.Second, -30 * time.Second} {
		refused := n.refusals()
		c.jumps(by)
		sending, err := alice.Send(t.Context(), chat, []byte(by.String()))
		if err != nil {
			t.Fatal(err)
		}
		for n.refusals() == refused { // until the metrics page counts a refusal
		}
		select {
		case <-sending.Done():
			t.Fatal("acknowledged although the clock is off")
		default:
		}
		if code, body := n.page("/readyz"); code != 503 || body != "not ready: clock_unhealthy\n" {
			t.Errorf("/readyz: %d %s", code, body)
		}
		c.runs(5 * time.Second)
		if code, body := n.page("/readyz"); code != 503 {
			t.Errorf("steady for five seconds only, /readyz: %d %s", code, body)
		}
		// The watch looks once a second: let it see the jump before the clock is steady.
		for said := false; !said; {
			err := n.Ready()
			if err == nil {
				t.Fatal("ready before the clock was steady")
			}
			said = strings.Contains(err.Error(), "jumped by "+by.String())
		}
		c.runs(11 * time.Second)
		sent := alice.done(sending)
		if sent.Seq != last.Seq+1 || sent.Server < last.Server {
			t.Errorf("after %+v came %+v", last, sent)
		}
		last, want = sent, append(want, by.String())
		if code, body := n.page("/readyz"); code != 200 {
			t.Errorf("/readyz: %d %s", code, body)
		}
	}
	shown(chat, want, bob, n.connect("alice", "2", "tcp"))
	_, metrics := n.page("/metrics")
	for _, line := range []string{"pim_clock_healthy 1", "pim_clock_jumps_total 2", "pim_clock_synchronised 1", "pim_clock_drift_seconds -28"} {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

// refusals returns how many sends were refused as clock_unhealthy, as the metrics page has it.
func (n *node) refusals() string {
	_, metrics := n.page("/metrics")
	_, after, _ := strings.Cut(metrics, `pim_sends_total{result="clock_unhealthy"} `)
	line, _, _ := strings.Cut(after, "\n")
	return line
}

// shown fails unless each app has been handed texts, and what it pulls from the server, in the
// display order, is texts.
func shown(c pim.ConversationID, texts []string, apps ...*app) {
	for _, a := range apps {
		a.t.Helper()
		a.sees(texts...)
		page, err := a.Pull(a.t.Context(), c, 1, 0, 0, false)
		if err != nil {
			a.t.Fatal(err)
		}
		slices.SortFunc(page.Entries, func(x, y pim.Entry) int { return x.Place().Compare(y.Place()) })
		var got []string
		for _, e := range page.Entries {
			got = append(got, string(e.Payload))
		}
		if !slices.Equal(got, texts) {
			a.t.Errorf("%s shows %q, want %q", a.user, got, texts)
		}
	}
}

// settle waits until the server has noticed that its clock was set, and then until it relies on
// the clock again.
func (n *node) settle(c *handSet) {
	// The node is not ready as soon as it is asked. The watch looks a moment later: it must see the
	// jump before the clock is steady, or the 11 seconds count for nothing.
	for said := false; !said; {
		err := n.Ready()
		said = err != nil && strings.Contains(err.Error(), "jumped by")
	}
	c.runs(11 * time.Second)
	for code := 0; code != 200; code, _ = n.page("/readyz") {
	}
}

// The server's clock is set back and forward while people write. Their devices notice that at
// different times, and still everybody sees the order of seqs.
func TestOrderWhileTheClockIsSet(t *testing.T) {
	c := &handSet{wall: time.Now(), mono: time.Hour}
	n := start(t, config(t), server.Options{Clock: c.source()})
	phone, bob := n.connect("alice", "phone", "http"), n.connect("bob", "phone", "tcp")
	chat := pim.Direct("alice", "bob")
	var texts []string
	says := func(a *app) {
		texts = append(texts, strconv.Itoa(len(texts)+1))
		a.says(chat, texts[len(texts)-1])
		c.runs(20 * time.Millisecond)
	}
	for i, by := range []time.Duration{-30 * time.Second, 30 * time.Second, -time.Hour, 10 * time.Minute, -365 * 24 * time.Hour} {
		for range 3 {
			says(phone)
		}
		c.jumps(by)
		n.settle(c)
		says(phone) // it has taken no sample since
		fresh := n.connect("alice", "laptop"+strconv.Itoa(i), "http")
		for range 2 {
			says(fresh)
			says(phone)
			says(bob)
		}
	}
	shown(chat, texts, bob, n.connect("alice", "new", "tcp"))
}

// The server ran with a clock that was an hour, or a year, ahead; the clock was set right while
// the server was stopped. All new messages are shown below the old ones, and their times are
// right.
func TestOrderAfterTheClockWasAhead(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 365 * 24 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			right := time.Now()
			c := &handSet{wall: right.Add(ahead), mono: time.Hour}
			cfg, chat := config(t), pim.Direct("alice", "bob")
			n := start(t, cfg, server.Options{Clock: c.source()})
			alice := n.connect("alice", "phone", "http")
			for _, text := range []string{"1", "2", "3"} {
				alice.says(chat, text)
				c.runs(time.Second)
			}
			n.stop()
			c.jumps(-ahead)
			n = start(t, cfg, server.Options{Clock: c.source()})
			bob, alice := n.connect("bob", "phone", "http"), n.connect("alice", "laptop", "tcp")
			for i, a := range []*app{alice, bob, alice, alice} {
				sent := a.says(chat, strconv.Itoa(4+i))
				if off := (sent.Server - sent.Ahead) - pim.MillisOf(c.now()); off != 0 {
					t.Errorf("message %d is %d ms off", 4+i, off)
				}
				c.runs(time.Duration(i) * 100 * time.Millisecond)
			}
			shown(chat, []string{"1", "2", "3", "4", "5", "6", "7"}, bob, n.connect("alice", "new", "http"))
		})
	}
}
