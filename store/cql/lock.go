package cql

import (
	"context"
	"sync"
)

// locks lets one write of this process at a time work on a log. Transactions on one part that race
// cost more than those that wait for each other, and may time out.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock // those that somebody holds or waits for
}

type lock struct {
	free  chan struct{} // has one element while nobody holds the lock
	users int           // who hold it or wait for it; guarded by locks.mu
}

// acquire returns when the caller holds the lock of name, or with the context's error. The caller
// calls release once.
func (l *locks) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[name]
	if k == nil {
		k = &lock{free: make(chan struct{}, 1)}
		k.free <- struct{}{}
		l.held[name] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, name)
		}
	}
	select {
	case <-k.free:
		return func() {
			k.free <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
