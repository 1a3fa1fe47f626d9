package real

import (
	"fmt"
	"os"
	"runtime"
	"sync"
)

// stage is the imtest.T of one schedule. Fatal ends the schedule's goroutine, and with
// it only this schedule; then the cleanups run.
type stage struct {
	mu       sync.Mutex
	err      error
	cleanups []func()
}

// play calls f, cleans up, and returns what went wrong.
func play(f func(*stage)) error {
	s := new(stage)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.cleanUp()
		f(s)
	}()
	<-done
	return s.err
}

func (s *stage) cleanUp() {
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		last()
	}
}

// Helper implements imtest.T.
func (s *stage) Helper() {}

// Cleanup implements imtest.T.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Fatal implements imtest.T.
func (s *stage) Fatal(args ...any) { s.Fatalf("%s", fmt.Sprint(args...)) }

// Fatalf implements imtest.T.
func (s *stage) Fatalf(format string, args ...any) {
	s.mu.Lock()
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
	s.mu.Unlock()
	runtime.Goexit()
}

// TempDir implements imtest.T.
func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "pim-real-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
