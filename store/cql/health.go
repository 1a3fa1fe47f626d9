package cql

import (
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
)

// unwellFor is for how long after a failure the store counts as unwell. Then a write tries again.
const unwellFor = time.Second

// health knows the last failure since the last success. It counts only requests that the cluster
// could not carry out at all.
type health struct{ failed atomic.Pointer[failure] }

type failure struct {
	err error
	at  time.Time
}

func (h *health) ok() {
	if h.failed.Load() != nil {
		h.failed.Store(nil)
	}
}

func (h *health) fails(err error) {
	if refused(err) && !mistaken(err) {
		h.failed.Store(&failure{unavailable("health", err), time.Now()})
	}
}

// Health implements store.Store. For a second after a request that no node would carry out, it
// returns that request's error; while the cluster would lose what it acknowledges, it says why.
func (s *Store) Health() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed()
	}
	if err := s.safety.err(); err != nil {
		return err
	}
	if f := s.health.failed.Load(); f != nil && time.Since(f.at) < unwellFor {
		return f.err
	}
	return nil
}

func errClosed() error { return pim.Errorf(pim.KindUnavailable, "the store is closed") }
