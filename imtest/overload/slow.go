package overload

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim/store"
)

// Slow is a store that takes only so many entries a second, one after the other, however many are
// written at a time: what a disk or a Cassandra is that has reached its limit. What comes
// faster waits, without a bound. Writes without entries do not wait. Stop ends it.
type Slow struct {
	store.Store
	each time.Duration // for an entry

	mu      sync.Mutex // guards the fields below
	waiting []slowWrite
	free    time.Time // when all of waiting will be written
	wake    chan struct{}

	stop    chan struct{}
	stopped sync.WaitGroup
}

type slowWrite struct {
	write *store.Write
	d     store.Durability
	done  func(*store.Write)
	at    time.Time
}

// NewSlow returns s with a limit of so many entries a second.
func NewSlow(s store.Store, perSecond float64) *Slow {
	w := &Slow{Store: s, each: time.Duration(float64(time.Second) / perSecond), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	w.stopped.Go(w.run)
	return w
}

// Begin implements store.Store.
func (s *Slow) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	now := time.Now()
	var quick []*store.Write
	s.mu.Lock()
	for _, w := range writes {
		if len(w.Records) == 0 {
			quick = append(quick, w)
			continue
		}
		if s.free.Before(now) {
			s.free = now
		}
		s.free = s.free.Add(time.Duration(len(w.Records)) * s.each)
		s.waiting = append(s.waiting, slowWrite{w, d, done, s.free})
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if len(quick) > 0 {
		s.Store.Begin(ctx, quick, d, done)
	}
}

// run passes writes on when it is their time.
func (s *Slow) run() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		due, next := s.due(time.Now())
		for _, w := range due {
			s.Store.Begin(context.Background(), []*store.Write{w.write}, w.d, w.done)
		}
		t.Reset(next)
		select {
		case <-t.C:
		case <-s.wake:
		case <-s.stop:
			return
		}
	}
}

// due returns the writes whose time has come, and how long it is until the next one's.
func (s *Slow) due(now time.Time) (due []slowWrite, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.waiting) && !s.waiting[n].at.After(now) {
		n++
	}
	due, s.waiting = s.waiting[:n:n], s.waiting[n:]
	if len(s.waiting) == 0 {
		s.waiting = nil
		return due, time.Hour
	}
	return due, s.waiting[0].at.Sub(now)
}

// Stop ends the goroutine of s. It is called when nothing is under way any more.
func (s *Slow) Stop() {
	close(s.stop)
	s.stopped.Wait()
}
