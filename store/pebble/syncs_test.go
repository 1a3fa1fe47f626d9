package pebble

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// platter is a disk in a synctest bubble. A write becomes durable by an fsync that
// begins after it.
type platter struct {
	syncs
	given, durable atomic.Int64
	fsyncs         atomic.Int64
	takes          time.Duration // an fsync
}

func newPlatter(takes time.Duration) *platter {
	p := &platter{takes: takes}
	p.fsync = func() error {
		p.fsyncs.Add(1)
		given := p.given.Load()
		time.Sleep(p.takes)
		p.durable.Store(given)
		return nil
	}
	return p
}

// commit writes once and asks for an fsync. It returns how long that took, and whether
// the write was durable at the end.
func (p *platter) commit() (took time.Duration, durable bool) {
	begun := time.Now()
	n := p.given.Add(1)
	err := p.share(1)
	return time.Since(begun), err == nil && p.durable.Load() >= n
}

// Clients commit at random times. What share says is durable is durable. No client waits
// longer than for company, the fsync under way and its own fsync.
func TestSharedFsyncs(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fsync := time.Duration(rapid.IntRange(0, 5000).Draw(r, "fsync in µs")) * time.Microsecond
		clients := rapid.IntRange(1, 12).Draw(r, "clients")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 6000), clients, 100).Draw(r, "pauses in µs")
		synctest.Test(t, func(*testing.T) {
			disk := newPlatter(fsync)
			var work sync.WaitGroup
			for c := range clients {
				work.Go(func() {
					for i := c; i < len(pauses); i += clients {
						time.Sleep(time.Duration(pauses[i]) * time.Microsecond)
						took, durable := disk.commit()
						if !durable {
							r.Errorf("a commit was acknowledged before it was durable")
						}
						if most := companyWait + 2*fsync; took > most {
							r.Errorf("a commit took %v, the most is %v", took, most)
						}
					}
				})
			}
			work.Wait()
		})
	})
}

// A commit on a quiet node has its fsync at once.
func TestLoneCommitDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newPlatter(time.Millisecond)
		for range 100 {
			time.Sleep(companyWithin)
			if took, _ := disk.commit(); took != disk.takes {
				t.Fatalf("it took %v", took)
			}
		}
	})
}

// Senders who wait for the answer before they send again would send less if fsyncs
// waited. A trial finds that out, and the next trials are rare.
func TestWhoWaitsForAnswersIsNotHeldUp(t *testing.T) {
	for _, senders := range []int{1, 2, 8, 50} {
		synctest.Test(t, func(t *testing.T) {
			disk := newPlatter(200 * time.Microsecond)
			const each = 60_000
			begun := time.Now()
			var work sync.WaitGroup
			for range senders {
				work.Go(func() {
					for range each {
						disk.commit()
						time.Sleep(100 * time.Microsecond)
					}
				})
			}
			work.Wait()
			disk.mu.Lock() // a round takes up to 400 µs if all senders commit together
			defer disk.mu.Unlock()
			if took, most := time.Since(begun), each*500*time.Microsecond; took > most {
				t.Errorf("%d senders took %v, the most is %v", senders, took, most)
			}
		})
	}
}

// At 1,000 commits a second at even distances, mostly three commits share an fsync.
func TestSteadyCommitsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newPlatter(200 * time.Microsecond)
		const commits = 5000
		var work sync.WaitGroup
		for range commits {
			time.Sleep(time.Millisecond)
			work.Go(func() { disk.commit() })
		}
		work.Wait()
		if n := disk.fsyncs.Load(); n > commits/2 {
			t.Errorf("%d fsyncs for %d commits", n, commits)
		}
	})
}
