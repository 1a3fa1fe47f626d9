package main

import (
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// logWriter hands the lines of a log to a writer that may fail or be stuck, such as a
// pipe whose reader has died or has stopped reading. It never blocks the goroutine that
// logs: lines that the writer does not take are dropped. Once the writer takes lines
// again, one of them says how many are missing.
type logWriter struct {
	to   io.Writer
	work chan struct{} // capacity 1: there is something to write
	stop chan struct{}
	done chan struct{} // closed when the writing goroutine has ended

	mu      sync.Mutex
	lines   [][]byte
	size    int // bytes in lines
	dropped int // lines that were not written
}

const (
	logBytes = 1 << 20 // most bytes that wait to be written
	// logPatience is how long close waits for lines that are still to be written.
	logPatience = time.Second
)

// outliveReaders ignores SIGPIPE, so that a write to a pipe whose reader has died returns
// an error. The signal would end the process without a drain.
func outliveReaders() { signal.Ignore(syscall.SIGPIPE) }

// newLogWriter starts to write to w; close ends it.
func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{to: w, work: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write queues one line, or drops it. It does not fail.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(line) > logBytes {
		l.dropped++
		return len(line), nil
	}
	l.lines = append(l.lines, append([]byte(nil), line...))
	l.size += len(line)
	select {
	case l.work <- struct{}{}:
	default:
	}
	return len(line), nil
}

func (l *logWriter) run() {
	defer close(l.done)
	for {
		select {
		case <-l.work:
			l.writeAll()
		case <-l.stop:
			l.writeAll()
			return
		}
	}
}

// writeAll writes what is queued, and what is queued meanwhile.
func (l *logWriter) writeAll() {
	for {
		lines, dropped := l.take()
		if len(lines) == 0 {
			return
		}
		for _, line := range lines {
			if dropped > 0 {
				if _, err := fmt.Fprintf(l.to, "pim: %d lines of the log could not be written\n", dropped); err != nil {
					dropped++
					continue
				}
				dropped = 0
			}
			if _, err := l.to.Write(line); err != nil {
				dropped++
			}
		}
		l.mu.Lock()
		l.dropped += dropped
		l.mu.Unlock()
	}
}

func (l *logWriter) take() (lines [][]byte, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, dropped = l.lines, l.dropped
	l.lines, l.size = nil, 0
	if len(lines) > 0 {
		l.dropped = 0
	}
	return lines, dropped
}

// close writes what is queued. If the writer is stuck, close gives up after logPatience
// and leaves the writing goroutine behind, which only the end of the process frees.
func (l *logWriter) close() {
	close(l.stop)
	patience := time.NewTimer(logPatience)
	defer patience.Stop()
	select {
	case <-l.done:
	case <-patience.C:
	}
}
