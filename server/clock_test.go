package server_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/server"
)

// handSet is a clock that goes when the test says so.
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

// What is sent while the server's clock is off waits, and is sent when the clock
// has been steady; server times do not go back, whichever way the clock jumped.
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
		for n.refusals() == refused { // the metrics page is read again and again
		}
		select {
		case <-sending.Done():
			t.Fatal("acknowledged although the clock is off")
		default:
		}
		if code, body := n.page("/readyz"); code != 503 || !strings.Contains(body, "clock") {
			t.Errorf("/readyz: %d %s", code, body)
		}
		c.runs(5 * time.Second)
		if code, body := n.page("/readyz"); code != 503 {
			t.Errorf("steady for five seconds only, /readyz: %d %s", code, body)
		}
		// The watch looks once a second: let it see the jump before the clock is steady.
		for code, body := 0, ""; !strings.Contains(body, "jumped by "+by.String()); code, body = n.page("/readyz") {
			if code == 200 {
				t.Fatal("ready before the clock was steady")
			}
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
	bob.sees(want...)
	_, metrics := n.page("/metrics")
	for _, line := range []string{"pim_clock_healthy 1", "pim_clock_jumps_total 2", "pim_clock_synchronised 1", "pim_clock_drift_seconds -28"} {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

// refusals returns the line that counts them.
func (n *node) refusals() string {
	_, metrics := n.page("/metrics")
	_, after, _ := strings.Cut(metrics, `pim_sends_total{result="clock_unhealthy"} `)
	line, _, _ := strings.Cut(after, "\n")
	return line
}
