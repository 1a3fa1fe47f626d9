package sim

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
// PIM_SEED plays one schedule, PIM_SCHEDULES says how many are played.
func TestSchedules(t *testing.T) {
	if s := os.Getenv("PIM_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if broken, story := play(seed, nil); len(broken) > 0 {
			t.Fatalf("%s\n%s", story, strings.Join(broken, "\n"))
		}
		return
	}
	n := uint64(schedules)
	if s := os.Getenv("PIM_SCHEDULES"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	first := rand.Uint64()
	t.Logf("%d schedules, of the seeds from %d on", n, first)
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
