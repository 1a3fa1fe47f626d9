package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// events returns the functions that Pebble calls on its events. None of them may block
// or call Pebble.
func (s *Store) events() *crdb.EventListener {
	return &crdb.EventListener{
		BackgroundError: func(err error) {
			s.noteCorruption("compact", err)
			if more, ok := s.backgroundErrors.next(time.Now()); ok {
				s.log.Error("store: background work failed", "err", err, "errors_before", more)
			}
		},
		DataCorruption: func(i crdb.DataCorruptionInfo) {
			s.log.Error("store: corrupt file", "file", i.Path, "err", i.Details)
			s.noteCorruption("read "+i.Path, i.Details)
		},
		FlushEnd: func(i crdb.FlushInfo) {
			// If a memtable held nothing to write out, as after a start that replayed an
			// empty write-ahead log, Pebble reports an error, which is not exported.
			if i.Err == nil || i.Err.Error() == "pebble: empty table" {
				s.health.set(cannotFlush, nil)
				return
			}
			s.health.set(cannotFlush, pim.Errorf(pim.KindUnavailable, "the memtable could not be written out: %w", i.Err))
		},
		WriteStallBegin: func(i crdb.WriteStallBeginInfo) {
			s.log.Warn("store: writes wait for the disk to catch up", "why", i.Reason)
		},
		WriteStallEnd: func() { s.log.Info("store: the disk has caught up") },
	}
}

func (s *Store) diskSlow(i vfs.DiskSlowInfo) {
	s.metrics.diskSlow.Add(1)
	s.log.Warn("store: slow disk", "op", i.OpType.String(), "file", i.Path, "for", i.Duration)
}

// seldom lets the first of many log lines through, and then one every logEvery. A flush or
// compaction that fails is tried again every 50 ms, until there is room or the store is opened
// again, and the disk that has no room may be the one with the log.
type seldom struct {
	mu   sync.Mutex
	last time.Time // when a line was let through
	seen time.Time // when the last one came
	more int       // lines since last that were not let through
}

const logEvery = time.Minute

// next reports whether a line may be written at now, and how many were not since the last one.
func (s *seldom) next(now time.Time) (more int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.seen) >= logEvery { // those before are of another time
		s.more = 0
	}
	s.seen = now
	if !s.last.IsZero() && now.Sub(s.last) < logEvery {
		s.more++
		return 0, false
	}
	more, s.more, s.last = s.more, 0, now
	return more, true
}

// pebbleLogger writes what Pebble logs to the store's log.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) {
		l.s.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot go on. The guard keeps disk errors from Pebble, so
// the cause is a missing file or a defect that Pebble has found in itself. Pebble expects
// that Fatalf does not return. But ending the process would take everything else down,
// and stopping the goroutine would leave Pebble's mutexes locked, so that reads and Close
// hang. So Fatalf freezes the guard, which makes whatever Pebble does next harmless to
// the disk, and returns. Most callers then get an error; at worst the process crashes.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	stack := make([]byte, 16<<10)
	stack = stack[:runtime.Stack(stack, false)]
	l.s.log.Error("pebble: "+text, "stack", string(stack))
	l.s.guard.freeze("pebble", l.s.dir, errors.New(text))
}
