package gateway

import (
	"errors"
	"os"
	"time"
)

// A goroutine's stack grows with its work and hardly ever shrinks: after a few frames it is
// at least twice as large as waiting needs. So when a connection falls silent, another
// goroutine goes on waiting in place of the one that has done the work.

// renewAfter is how long a connection is silent when its goroutine is replaced.
const renewAfter = 5 * time.Second

// States of reader.used.
const (
	readerFresh    = iota // the goroutine has handled nothing
	readerUsed            // it has
	readerReplaced        // renew has set a deadline to end its read; if bytes come first, the state is readerUsed again
)

// renew makes the reading goroutine hand over to another one, if it has handled frames and
// c has been silent for renewAfter.
func (c *conn) renew(m moment) {
	if c.in.used.Load() != readerUsed || m.elapsed-c.lastRead.Load() < renewAfter.Milliseconds() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing { // linger sets the deadlines now
		return
	}
	c.in.used.Store(readerReplaced)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// handOver starts another reading goroutine in place of the caller, if renew has ended the
// caller's read. It reports whether the caller must return.
func (c *conn) handOver(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) { // only renew sets a deadline for this read; linger reads by itself
		return false
	}
	c.in.used.Store(readerFresh)
	c.in.sends = nil
	c.forgetSent()
	c.nc.SetReadDeadline(time.Time{})
	return c.gw.start(c.goOn)
}
