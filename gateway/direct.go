package gateway

import "syscall"

// maxDirect is to how many connections one Deliver writes itself; the others have
// goroutines, which other CPUs take meanwhile. A large group's pushes are many.
const maxDirect = 64

// direct writes what is queued for connections at once, without a goroutine for each,
// as far as their sockets have room. At low load a goroutine costs more than the
// write: another thread is woken to see whether it has something to do.
type direct struct {
	buf []byte // to be written
	n   int    // how much of it was
	try func(fd uintptr) bool
}

// start has what is queued for the connections written. The caller has claimed them.
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

// send writes what is queued for c; it reports whether that was all there is to do
// for c's sender. It never waits.
func (d *direct) send(c *conn) (all bool) {
	c.mu.Lock()
	if c.raw == nil || c.behind || c.closing || len(c.out) > writeStep {
		c.mu.Unlock()
		return false
	}
	buf, answered := c.out, c.answered
	c.out, c.answered = nil, 0
	c.mu.Unlock()

	n := d.write(c.raw, buf)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsent -= n
	if n < len(buf) { // the sender goes on from here
		c.out = append(buf[:copy(buf, buf[n:])], c.out...)
		c.answered += answered
		return false
	}
	giveBuffer(buf)
	c.inFlight -= answered
	c.tell()
	c.sending = len(c.out) > 0 || c.behind || c.closing
	return !c.sending
}

// write writes what there is room for and returns how much that was. Whether an error
// is in the way is seen by who writes the rest.
func (d *direct) write(raw syscall.RawConn, buf []byte) int {
	if d.try == nil {
		d.try = d.attempt
	}
	d.buf, d.n = buf, 0
	if err := raw.Write(d.try); err != nil {
		return 0 // the connection is closed
	}
	return max(d.n, 0)
}

func (d *direct) attempt(fd uintptr) bool {
	errno := syscall.EINTR
	for errno == syscall.EINTR {
		d.n, errno = writeFile(fd, d.buf)
	}
	return true // whether there was room or not: it is not waited for
}
