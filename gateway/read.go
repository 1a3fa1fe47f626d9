package gateway

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/limit"
)

// reader is what the reading goroutine of a connection keeps between reads.
type reader struct {
	partial []byte                // the beginning of a frame, mostly nil; if large, with capacity to read on
	message []byte                // the WebSocket fragments of an unfinished message; nil: there is none
	need    int32                 // the length that partial must have for the next try
	half    int32                 // bytes of the unfinished frame that had come at conn.halfSince
	try     func(fd uintptr) bool // tryRead, made once

	// Of the read under way.
	pooled *[readSize]byte // nil if the read goes into partial
	errno  int32           // a syscall.Errno, which fits
	n      int32           // bytes that were read, after partial
	frames int32           // that were cut off, those of the WebSocket layer included

	used atomic.Uint32 // readerFresh, readerUsed or readerReplaced; the janitor writes it too

	sends []*conv.Request // of the read that is being handled, for submit

	sent *limit.Sent // what counts of what the connection has sent, see spend; nil: nothing
}

const (
	readSize  = 64 << 10
	smallRead = 2 << 10 // for connections that hold their buffer while idle
	// readStep is how many bytes an unfinished frame must grow by within each
	// Limits.Handshake. So a large message on a slow line has the time that it needs.
	readStep = 4 << 10
	// largePartial is the size from which the beginning of a frame is read on in place.
	// If it were copied for each read, a client that sends few bytes at a time would cost
	// much.
	largePartial = 8 << 10
	// maxHello is the largest first frame; its token has at most 8 KiB. For a client that
	// has not said who it is, the server keeps no larger frame.
	maxHello = 16 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

var errClosed = errors.New("closed by the client")

// read waits for bytes and returns them, after those that the last read left over. They
// are valid until release.
func (c *conn) read() ([]byte, error) {
	in := &c.in
	if c.raw == nil {
		return c.readHolding()
	}
	if in.try == nil {
		in.try = c.tryRead
	}
	in.n, in.errno = 0, 0
	if err := c.raw.Read(in.try); err != nil {
		return nil, err
	}
	switch {
	case in.errno != 0:
		return nil, syscall.Errno(in.errno)
	case in.n == 0:
		return nil, io.EOF
	}
	buf := in.partial
	if in.pooled != nil {
		buf = in.pooled[:]
	}
	return buf[:len(in.partial)+int(in.n)], nil
}

// tryRead reads once, without waiting; false makes RawConn.Read wait and call it again.
// It takes a buffer only for the attempt, so that a connection that waits holds none.
func (c *conn) tryRead(fd uintptr) bool {
	in := &c.in
	buf := c.buffer()
	n, errno := readFile(fd, buf[len(in.partial):])
	for errno == syscall.EINTR {
		n, errno = readFile(fd, buf[len(in.partial):])
	}
	if errno == syscall.EAGAIN {
		c.release()
		return false
	}
	in.n, in.errno = int32(n), int32(errno)
	return true
}

// buffer returns a buffer that begins with what the last read left over and has room to
// read on.
func (c *conn) buffer() []byte {
	in := &c.in
	if len(in.partial) >= largePartial {
		return in.partial[:cap(in.partial)]
	}
	in.pooled = readBuffers.Get().(*[readSize]byte)
	copy(in.pooled[:], in.partial)
	return in.pooled[:]
}

// release gives the buffer of the last read back to the pool.
func (c *conn) release() {
	if c.in.pooled != nil {
		readBuffers.Put(c.in.pooled)
		c.in.pooled = nil
	}
}

// readHolding reads into a buffer of the connection's own, which it holds while it waits.
func (c *conn) readHolding() ([]byte, error) {
	in := &c.in
	buf := in.partial[:cap(in.partial)]
	if len(in.partial) < largePartial {
		buf = make([]byte, max(min(int(in.need), 2*largePartial), len(in.partial)+smallRead))
		copy(buf, in.partial)
	}
	n, err := c.nc.Read(buf[len(in.partial):])
	if n > 0 {
		err = nil
	}
	return buf[:len(in.partial)+n], err
}

// keep stores rest, which remains of a read, for the next one; need is as from cut.
func (c *conn) keep(rest []byte, need int) {
	in := &c.in
	in.need = int32(need)
	if len(rest) == 0 {
		in.partial = nil
		if in.message == nil {
			c.halfSince.Store(0)
			return
		}
	}
	if half := int32(len(in.message) + len(rest)); c.halfSince.Load() == 0 || half-in.half >= readStep {
		in.half = half
		now := c.gw.elapsed()
		c.halfSince.Store(now)
		c.lookBy(now + c.gw.Limits.Handshake.Milliseconds() + 1)
	}
	switch {
	case len(rest) < largePartial:
		in.partial = append(make([]byte, 0, len(rest)), rest...)
	case cap(in.partial) > len(rest) && &in.partial[:1][0] == &rest[0]:
		in.partial = in.partial[:len(rest)] // it was read in place, and there is room
	default: // room for as much again only: the announced rest may never come
		in.partial = append(make([]byte, 0, min(need, 2*len(rest))), rest...)
	}
}

// whole notes that a frame is complete: halfSince begins anew with the next one.
func (c *conn) whole() {
	if c.halfSince.Load() != 0 {
		c.halfSince.Store(0)
	}
}

// run handles what came after Hello in the same reads, and goes on.
func (c *conn) run() {
	early := c.in.partial
	c.in.partial = nil
	if len(early) > 0 {
		err := c.consume(early, c.handle)
		c.serve()
		c.submit()
		if err != nil {
			c.ended(err)
			c.gone()
			return
		}
		if !c.spend(len(early)) {
			c.gone()
			return
		}
	}
	c.goOn()
}

// goOn reads and handles frames until the connection ends, or until it has been silent and
// handOver has started another goroutine that goes on.
func (c *conn) goOn() {
	for {
		buf, err := c.read()
		if err != nil {
			c.release()
			if c.handOver(err) {
				return
			}
			c.ended(err)
			break
		}
		c.lastRead.Store(c.gw.elapsed())
		if c.in.used.Load() != readerUsed {
			c.in.used.Store(readerUsed)
		}
		n := len(buf) - len(c.in.partial)
		err = c.consume(buf, c.handle)
		c.release()
		c.serve()
		c.submit()
		if err != nil {
			c.ended(err)
			break
		}
		if !c.spend(n) {
			break
		}
	}
	c.gone()
}

// consume calls handle for every whole frame in buf and keeps the rest.
func (c *conn) consume(buf []byte, handle func(frame []byte) error) error {
	rest := buf
	for {
		frame, tail, need, err := c.cut(rest)
		if err != nil {
			return err
		}
		if need > 0 {
			c.keep(tail, need)
			return nil
		}
		rest = tail
		if frame == nil {
			continue
		}
		if err := handle(frame); err != nil {
			return err
		}
		if len(rest) == 0 {
			c.keep(nil, 0)
			return nil
		}
	}
}

// cut splits the first frame of pim's protocol from buf. If buf holds only a part of a
// frame, need is the length that buf must have for the next try. Else the frame is nil if
// a control frame or a fragment of the WebSocket layer was cut off.
func (c *conn) cut(buf []byte) (frame, rest []byte, need int, err error) {
	limit := pim.MaxFrame
	if c.user == "" {
		limit = maxHello
	}
	u, rest, need, err := c.framing.cut(buf, limit, &c.in.message)
	if err != nil || need > 0 {
		return nil, rest, need, err
	}
	c.in.frames++
	if c.in.message == nil {
		c.whole()
	}
	switch u.kind {
	case unitFrame:
		return u.payload, rest, 0, nil
	case unitPing:
		c.pong(u.payload)
	case unitClose:
		return nil, rest, 0, errClosed
	}
	return nil, rest, 0, nil
}

// pong answers a ping of the WebSocket layer, unless more than QueueBytes of commands are
// unsent.
func (c *conn) pong(payload []byte) {
	e, ok := c.begin(commands)
	if !ok {
		return
	}
	if c.waiting(commands) > c.gw.Limits.QueueBytes {
		e.drop()
		return
	}
	e.put(c.framing.appendPong(e.room(maxHeader+len(payload)), payload))
	e.send()
}

// farewell answers a close frame with one, RFC 6455 section 5.5.1, and closes once all that
// is queued is written.
func (c *conn) farewell() {
	if e, ok := c.begin(entries); ok {
		e.last(uint16(ws.StatusNormalClosure), "")
		e.send()
	}
}

// ended closes after an error of reading. A client that did something wrong is told what;
// if the connection is lost nothing is said.
func (c *conn) ended(err error) {
	var e *pim.Error
	if errors.As(err, &e) {
		c.dismiss(codeOf(err), e.Text)
		return
	}
	if errors.Is(err, errClosed) {
		c.farewell()
		c.awaitEnd()
		return
	}
	if errors.Is(err, io.EOF) && (c.in.partial != nil || c.in.message != nil) {
		err = io.ErrUnexpectedEOF
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.log().Debug("connection lost", "err", err)
	}
	c.abort()
}

// awaitEnd waits until the connection is closed. The sender closes it after the last frame, or the
// janitor does.
func (c *conn) awaitEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		c.await()
	}
}

// gone closes the connection and takes it out of the gateway. It is called once, by the
// last goroutine that reads.
func (c *conn) gone() {
	c.abort()
	c.gw.wheel.remove(c)
	known := c.connection(0)
	if slices.Contains(c.gw.Sessions.of(c.user), c) { // a login that was refused is no use
		c.gw.Access.Note(c.user, c.device, pim.MillisOf(c.gw.Now()))
	}
	if c.gw.Sessions.remove(c) {
		c.gw.presence(c.user)
		known.Seen = c.gw.Acks.LastSeen(c.user)
	}
	if c.gw.Homes != nil {
		c.gw.Homes.Leave(known)
	}
	c.gw.Sessions.looks.end(c)
	c.gw.open.Add(-1)
	c.gw.Metrics.connections.Dec()
	c.gw.Metrics.transports.WithLabelValues(c.transport()).Dec()
}
