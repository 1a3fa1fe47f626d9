package crew_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pim-im/pim/crew"
)

// However many jobs come at a time, each is done once. Then as many goroutines wait as are to be kept, and
// they take the jobs that come, until all of it is over.
func TestJobsAreDoneByFewGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keep, jobs = 3, 20
		done := make(chan struct{})
		c := crew.New[int](keep, done)
		var running sync.WaitGroup
		var begun, alive, sum atomic.Int64
		hold := make(chan struct{})
		do := func(job int) {
			if c.Give(job) {
				return
			}
			begun.Add(1)
			alive.Add(1)
			running.Go(func() {
				defer alive.Add(-1)
				for ok := true; ok; job, ok = c.Next() {
					<-hold
					sum.Add(int64(job))
				}
			})
		}
		for i := range jobs {
			do(i + 1)
		}
		if n := begun.Load(); n != jobs {
			t.Errorf("%d goroutines do %d jobs", n, jobs)
		}
		close(hold)
		synctest.Wait()
		if n := alive.Load(); n != keep {
			t.Errorf("%d goroutines wait, %d are to be kept", n, keep)
		}
		for range 10 {
			do(1)
			synctest.Wait()
		}
		if n := begun.Load(); n != jobs {
			t.Errorf("%d goroutines were begun for jobs that came one after the other", n-jobs)
		}
		if n := sum.Load(); n != jobs*(jobs+1)/2+10 {
			t.Errorf("the jobs come to %d", n)
		}
		close(done)
		running.Wait()
		do(5) // a new goroutine does it, and ends
		running.Wait()
		if n := alive.Load(); n != 0 {
			t.Errorf("%d goroutines are left", n)
		}
	})
}

// Nobody takes a job that is given after the end, whether the goroutines that waited have ended yet or not, and one that
// was given before it is taken, however soon the end comes.
func TestJobsAtTheEnd(t *testing.T) {
	for range 1000 {
		done := make(chan struct{})
		c := crew.New[int](2, done)
		var running sync.WaitGroup
		var did atomic.Int64
		for range 2 {
			running.Go(func() {
				for _, ok := c.Next(); ok; _, ok = c.Next() {
					did.Add(1)
				}
			})
		}
		var given int64
		for range 3 { // some find a goroutine that waits
			if c.Give(1) {
				given++
			}
			runtime.Gosched()
		}
		close(done)
		for range 10 {
			if c.Give(1) {
				t.Fatal("a job was taken after the end")
			}
		}
		running.Wait()
		if n := did.Load(); n != given {
			t.Fatalf("%d jobs were done of %d", n, given)
		}
	}
}
