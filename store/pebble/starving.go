package pebble

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// A process, or a machine, that is out of file descriptors opens no file for a while.
// That says nothing about the disk, and the operation had no effect, so the guard tries
// it again. A file that Pebble opens for writing, or a directory, is tried for as long as
// the store is open, because Pebble could not go on after an error. A file for reading is
// tried readTries times, and then the caller gets the error.
//
// All other failures are treated as guard says: if a file was opened and then cannot be
// written or synced, the guard freezes.

// readTries is how often the guard tries to open a file for reading: for about a second.
const readTries = 20

// noDescriptor reports whether err says that there is no file descriptor.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// starving counts the calls that wait for a file descriptor.
type starving struct {
	mu      sync.Mutex
	waiting int
	// report is called with mu held: with the error when the first call begins to wait,
	// and with nil when the last one has ended.
	report func(err error)
}

func (s *starving) begin(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting++; s.waiting == 1 {
		s.report(err)
	}
}

func (s *starving) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		s.report(nil)
	}
}

// openPatiently calls open until it gets a file descriptor, the store closes, or the
// guard is frozen. While the store is being opened it makes at most openTries tries, so
// that Open comes back.
func (g *guard) openPatiently(open func() (vfs.File, error)) (vfs.File, error) {
	f, err := open()
	if !noDescriptor(err) {
		return f, err
	}
	g.starving.begin(err)
	defer g.starving.end()
	for tries := 1; noDescriptor(err) && g.frozen.Load() == nil && (g.opened.Load() || tries < openTries); tries++ {
		if !g.pause() {
			break
		}
		f, err = open()
	}
	return f, err
}

// pause waits for retryPause; it reports false when the store closes.
func (g *guard) pause() bool {
	t := time.NewTimer(retryPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.pauses:
		return false
	}
}

// Open opens a file for reading. A file of the write-ahead log that is being written ends where it
// ended before the call, see walCopy.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	written, growing := g.written(name)
	f, err := g.FS.Open(name, opts...)
	for tries := 1; noDescriptor(err) && tries < readTries && g.pause(); tries++ {
		f, err = g.FS.Open(name, opts...)
	}
	if err == nil && growing {
		f = &walCopy{f, written}
	}
	return f, err
}

// starves sets the store's health when the store begins to wait for a file descriptor,
// because of err, and, with a nil err, when it no longer waits.
func (s *Store) starves(err error) {
	if err == nil {
		s.health.set(isStarving, nil)
		return
	}
	e := pim.Errorf(pim.KindUnavailable, "no file can be opened: %w; raise the limit of open files, or lower max-connections", err)
	e.RetryAfter = 2 * time.Second
	s.health.set(isStarving, e)
}
