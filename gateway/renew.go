package gateway

import (
	"errors"
	"os"
	"time"
)

// A goroutine's stack grows with what it does and hardly ever shrinks: one that has
// handled a few frames holds twice what waiting takes, or more. So when a connection
// falls silent, another goroutine goes on waiting in place of the one that has done
// the work.

// renewAfter is how long a connection is silent when its goroutine is replaced.
const renewAfter = 5 * time.Second

// States of reader.used.
const (
	readerFresh    = iota // the goroutine has handled nothing
	readerUsed            // it has
	readerReplaced        // it is woken, to be replaced; if bytes come first, used again
)

// renew has the reading goroutine replaced, if it has worked and c is silent now.
func (c *conn) renew(m moment) {
	if c.in.used.Load() != readerUsed || m.elapsed-c.lastRead.Load() < renewAfter.Milliseconds() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing { // deadlines are linger's now
		return
	}
	c.in.used.Store(readerReplaced)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// handOver starts another reading goroutine in place of the caller, if it was renew
// that ended its read. It reports whether the caller is to return.
func (c *conn) handOver(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) { // of nobody else: linger reads by itself
		return false
	}
	c.in.used.Store(readerFresh)
	c.in.sends = nil
	c.nc.SetReadDeadline(time.Time{})
	return c.gw.start(c.goOn)
}
