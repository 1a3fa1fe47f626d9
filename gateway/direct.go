package gateway

import (
	"sync"
	"syscall"
)

// maxDirect is how many connections one Deliver writes to by itself. The others have
// their sending goroutines, which run on other CPUs meanwhile: the pushes of a large
// group are many.
const maxDirect = 64

// direct writes what is queued for connections, as far as their sockets have room,
// without a goroutine for each. At low load a goroutine costs more than the write: the
// runtime wakes another thread to look for work. See docs/decisions/0020.
type direct struct {
	buf []byte                // to be written
	n   int                   // how many bytes of buf were written; tests set -1 for an error
	try func(fd uintptr) bool // attempt, made once; tests replace it
}

// directs are for goroutines that write to one connection at a time.
var directs = sync.Pool{New: func() any { return new(direct) }}

// start writes what is queued for the connections, or starts their senders. The caller
// has claimed them.
func (d *direct) start(conns []*conn) {
	few := min(len(conns), maxDirect)
	for _, c := range conns[few:] {
		c.startSender()
	}
	for _, c := range conns[:few] {
		if !d.send(c) {
			c.startSender()
		}
	}
}

// send writes what is queued for c, and never waits. It reports whether nothing is left
// to do for c's sender; else the caller must start it.
func (d *direct) send(c *conn) (all bool) {
	c.mu.Lock()
	if c.raw == nil || c.closing || !c.out.small() {
		c.mu.Unlock()
		return false
	}
	buf := c.out.take()
	c.mu.Unlock()

	n := d.write(c.raw, buf)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote(n)
	c.sending = c.out != nil || c.closing // the sender goes on from here
	return !c.sending
}

// write writes what the socket has room for and returns how many bytes that was. It
// reports no error: the sender meets it when it writes the rest.
func (d *direct) write(raw syscall.RawConn, buf []byte) int {
	if d.try == nil {
		d.try = d.attempt
	}
	d.buf, d.n = buf, 0
	err := raw.Write(d.try)
	d.buf = nil
	if err != nil {
		return 0 // the connection is closed
	}
	return max(d.n, 0)
}

func (d *direct) attempt(fd uintptr) bool {
	errno := syscall.EINTR
	for errno == syscall.EINTR {
		d.n, errno = writeFile(fd, d.buf)
	}
	return true // even without room, so that RawConn.Write does not wait for it
}
