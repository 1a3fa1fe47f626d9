// Package crew keeps goroutines for jobs that are short and many.
//
// A goroutine begins with a stack of 2 KiB. If its job reads the store, the stack is doubled three times, and
// each time all frames under way are copied: up to a fifth of the CPU time of a short job. A goroutine that is
// kept has had that.
package crew

import "sync/atomic"

// Crew has goroutines that have done a job and wait for the next one. The caller starts them:
//
//	if !c.Give(job) {
//		go func() {
//			for ok := true; ok; job, ok = c.Next() {
//				do(job)
//			}
//		}()
//	}
//
// So there are as many goroutines as there are jobs at a time, and a few that wait. All methods may be called
// by several goroutines.
type Crew[T any] struct {
	jobs chan T // unbuffered: a goroutine that waits takes a job, or nobody does
	done <-chan struct{}
	keep int32
	free atomic.Int32 // goroutines in Next
}

// New returns a Crew in which keep goroutines wait for jobs at most, until done is closed. Each keeps the
// stack that it has, mostly 16 to 32 KiB.
func New[T any](keep int, done <-chan struct{}) *Crew[T] {
	return &Crew[T]{jobs: make(chan T), done: done, keep: int32(keep)}
}

// Give hands job to a goroutine that waits. It reports false if there is none; then nobody has job. Once done is
// closed it always reports false. What was given just before is done like any other job, though done may be closed when it begins.
func (c *Crew[T]) Give(job T) bool {
	select {
	case c.jobs <- job:
		return true
	default:
		return false
	}
}

// Next waits for a job. It reports false, and the caller ends, if enough others wait or when done is closed.
func (c *Crew[T]) Next() (job T, ok bool) {
	defer c.free.Add(-1)
	if c.free.Add(1) > c.keep {
		return job, false
	}
	select {
	case job = <-c.jobs:
		return job, true
	case <-c.done:
		return job, false
	}
}
