package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// events returns what Pebble is to call. None of it may block or call Pebble.
func (s *Store) events() *crdb.EventListener {
	return &crdb.EventListener{
		BackgroundError: func(err error) {
			s.noteCorruption("compact", err)
			s.log.Error("store: background work failed", "err", err)
		},
		DataCorruption: func(i crdb.DataCorruptionInfo) {
			s.log.Error("store: corrupt file", "file", i.Path, "err", i.Details)
			s.noteCorruption("read "+i.Path, i.Details)
		},
		FlushEnd: func(i crdb.FlushInfo) {
			// Pebble calls it an error, unexported, that a memtable held nothing
			// to write out, as after a start that replayed an empty log.
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

// pebbleLogger hands on what Pebble logs.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) {
		l.s.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot go on: since the guard keeps disk errors
// from it, because a file is missing or it has found a defect of its own. It
// must not return to a caller that relies on it, but ending the process would
// take everything else down, and stopping the goroutine would leave Pebble's
// mutexes locked, for reads and Close to hang on. So the disk is frozen, which
// makes whatever Pebble does next harmless, and it returns: to most callers an
// error follows, to the rest at worst a crash.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	stack := make([]byte, 16<<10)
	stack = stack[:runtime.Stack(stack, false)]
	l.s.log.Error("pebble: "+text, "stack", string(stack))
	l.s.guard.freeze("pebble", l.s.dir, errors.New(text))
}
