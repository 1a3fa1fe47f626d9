package pebble

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

// platter is a disk in a synctest bubble. An fsync makes durable the writes that were given
// to the disk before it began.
type platter struct {
	queue
	given, durable atomic.Int64
	fsyncs         atomic.Int64
	takes          time.Duration // an fsync

	stop    chan struct{}
	running sync.WaitGroup
}

func newPlatter(takes time.Duration) *platter {
	p := &platter{takes: takes, stop: make(chan struct{})}
	p.init(store.Durable)
	for range committers {
		p.running.Go(func() {
			p.run(p.stop, func(*commit, *op) bool { return true }, p.carryOut)
		})
	}
	return p
}

func (p *platter) close() {
	close(p.stop)
	p.running.Wait()
}

// carryOut gives the disk the writes of c and makes them durable.
func (p *platter) carryOut(c *commit) {
	n := p.given.Add(int64(len(c.ops)))
	p.syncing(len(c.ops))
	p.fsyncs.Add(1)
	time.Sleep(p.takes)
	p.durable.Store(n)
	for i := range c.ops {
		c.ops[i].done(c.ops[i].write)
	}
}

// commit gives the disk one more write. It returns how long it took until done was called,
// and whether the write was durable then.
func (p *platter) commit() (took time.Duration, durable bool) {
	begun, done := time.Now(), make(chan struct{})
	n := p.given.Load() + 1
	w := &store.Write{}
	err := p.add(context.Background(), []op{{write: w, done: func(*store.Write) { close(done) }}})
	<-done
	return time.Since(begun), err == nil && p.durable.Load() >= n
}

// Clients commit at random times. When done is called for a write, the write is durable. No
// client waits longer than for company, for the fsync under way, and for its own fsync.
func TestSharedFsyncs(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fsync := time.Duration(rapid.IntRange(0, 5000).Draw(r, "fsync in µs")) * time.Microsecond
		clients := rapid.IntRange(1, 12).Draw(r, "clients")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 6000), clients, 100).Draw(r, "pauses in µs")
		synctest.Test(t, func(*testing.T) {
			disk := newPlatter(fsync)
			defer disk.close()
			var work sync.WaitGroup
			for c := range clients {
				work.Go(func() {
					for i := c; i < len(pauses); i += clients {
						time.Sleep(time.Duration(pauses[i]) * time.Microsecond)
						took, durable := disk.commit()
						if !durable {
							r.Errorf("a commit was acknowledged before it was durable")
						}
						if most := max(companyWait, fsync) + fsync; took > most {
							r.Errorf("a commit took %v, the most is %v", took, most)
						}
					}
				})
			}
			work.Wait()
		})
	})
}

// On a quiet node a commit has its fsync at once.
func TestLoneCommitDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newPlatter(time.Millisecond)
		defer disk.close()
		for range 100 {
			time.Sleep(companyWithin)
			if took, _ := disk.commit(); took != disk.takes {
				t.Fatalf("it took %v", took)
			}
		}
	})
}

// Senders who wait for the answer before they send again would send less if fsyncs waited for
// company. A trial finds that out, and the next trials are rare.
func TestWhoWaitsForAnswersIsNotHeldUp(t *testing.T) {
	for _, senders := range []int{1, 2, 8, 50} {
		synctest.Test(t, func(t *testing.T) {
			disk := newPlatter(200 * time.Microsecond)
			defer disk.close()
			each := seeds.Many(60_000) // some seconds, so several trials
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
			// A round takes up to 400 µs if all senders commit together.
			if took, most := time.Since(begun), time.Duration(each)*500*time.Microsecond; took > most {
				t.Errorf("%d senders took %v, the most is %v", senders, took, most)
			}
		})
	}
}

// Of 1,000 commits a second at even intervals, mostly three share an fsync.
func TestSteadyCommitsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newPlatter(200 * time.Microsecond)
		defer disk.close()
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
