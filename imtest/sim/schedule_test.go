package sim

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

const (
	schedules = 10_000
	healTime  = 30 * time.Minute // virtual
)

// play plays the schedule of a seed and returns what it broke.
func play(seed uint64, set func(*Device)) (broken []string, story string) {
	w := Random(seed, set)
	w.Heal(healTime)
	return w.Verify(), w.Story()
}

// Whatever happens to users, devices, networks, clocks and the server: when it is
// over nothing is lost, nothing doubled, and all devices show the same order.
//
// PIM_SCHEDULES says how many are played.
func TestSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(schedules), "PIM_SCHEDULES")
	var next, failed atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n && failed.Load() < 3; i = next.Add(1) - 1 {
				if broken, story := play(first+i, nil); len(broken) > 0 {
					failed.Add(1)
					t.Errorf("PIM_SEED=%d repeats this:\n%s\n%s", first+i, story, strings.Join(broken, "\n"))
				}
			}
		})
	}
	wg.Wait()
}

// A seed decides everything. Otherwise a schedule that fails could not be played again.
func TestSeedDecidesEverything(t *testing.T) {
	end := func(seed uint64) string {
		w := Random(seed, nil)
		w.Heal(healTime)
		w.Verify()
		return fmt.Sprint(w.Story(), w.order, w.rng.Uint64())
	}
	for seed := range uint64(seeds.Many(200)) {
		if a, b := end(seed), end(seed); a != b {
			t.Fatalf("the schedule of seed %d went two ways:\n%s\n\n%s", seed, a, b)
		}
	}
}

// After the server's clock was set back, local times of a device may be taken again,
// once, whenever the device notices. A message that was transmitted before keeps its
// own.
func TestLocalTimesOfOneSetting(t *testing.T) {
	type sent struct {
		id    byte
		local int64
	}
	for name, at := range map[string]struct {
		backs     int
		transmits []sent
		found     string
	}{
		"no time comes again":                    {0, []sent{{1, 10}, {2, 11}, {1, 10}}, ""},
		"it comes again by itself":               {0, []sent{{1, 10}, {2, 10}}, "with the local time 10"},
		"behind a later one":                     {0, []sent{{1, 10}, {2, 11}, {3, 10}}, "with the local time 10"},
		"the clock was set back":                 {1, []sent{{1, 10}, {2, 11}, {3, 9}, {4, 10}, {5, 11}}, ""},
		"a resend of before":                     {1, []sent{{1, 10}, {2, 8}, {1, 10}, {3, 9}, {4, 10}}, ""},
		"twice on the same setting":              {1, []sent{{1, 10}, {2, 8}, {3, 8}}, "with the local time 8"},
		"noticed one after the other":            {2, []sent{{1, 10}, {2, 8}, {3, 7}, {4, 8}}, ""},
		"a message whose time changes even then": {1, []sent{{1, 10}, {1, 8}}, "and before that with 10"},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld(1)
			d := w.NewDevice("alice", "phone")
			for range at.backs {
				w.JumpServer(-time.Second)
			}
			for _, m := range at.transmits {
				id := pim.ClientMessageID{m.id}
				d.timed(&wirepb.PIMSendReq{ClientMessageId: id[:], LocalMs: m.local})
			}
			if found := w.failure; (found == "") != (at.found == "") || !strings.Contains(found, at.found) {
				t.Errorf("found %q, want %q", found, at.found)
			}
		})
	}
}

// A device goes on that is replaced, and hears of it only when everything heals.
func TestReplacedWhileEverythingHeals(t *testing.T) {
	w := NewWorld(1)
	d := w.NewDevice("alice", "phone")
	d.net = Net{Name: "net0", Delay: 20 * time.Millisecond}
	d.Start()
	w.Run(w.now + 3*time.Minute)         // in the first two it may take being replaced for its own doing
	d.net.Delay = 400 * time.Millisecond // so that the server's last frame is still on its way
	d.Send(pim.Direct("alice", "alice"), "one")
	d.Replace()
	w.Heal(healTime)
	if broken := w.Verify(); len(broken) > 0 {
		t.Errorf("%s\n%s", w.Story(), strings.Join(broken, "\n"))
	}
}
