package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
)

// reader is what the reading goroutine of a connection keeps between reads.
type reader struct {
	partial []byte // the beginning of a frame, nil most of the time; if it is large, with room to read on
	message []byte // WebSocket fragments of a message so far
	need    int32  // bytes that partial must grow to for the next try
	half    int32  // bytes of the unfinished frame that there were at conn.halfSince
	try     func(fd uintptr) bool

	// Of the read under way.
	pooled *[readSize]byte
	errno  syscall.Errno
	n      int32 // bytes that were read, after partial

	used atomic.Uint32 // whether the goroutine is to be replaced, see renew.go

	sends []*conv.Request
}

const (
	readSize  = 64 << 10
	smallRead = 2 << 10 // for connections that hold their buffer while idle
	// readStep is what must have come of an unfinished frame within Limits.Handshake: a
	// large message on a slow line is no frame that stays half sent.
	readStep = 4 << 10
	// largePartial is from which size on the beginning of a frame is read on in
	// place: copying it for each read would let few bytes cost much.
	largePartial = 8 << 10
	// maxHello is the largest first frame: its token has 8 KiB at the most. Who has
	// not said who it is holds no more than that.
	maxHello = 16 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

var errClosed = errors.New("closed by the client")

// read waits for bytes and returns them, behind those that were left over. They
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
		return nil, in.errno
	case in.n == 0:
		return nil, io.EOF
	}
	buf := in.partial
	if in.pooled != nil {
		buf = in.pooled[:]
	}
	return buf[:len(in.partial)+int(in.n)], nil
}

// tryRead reads once, without waiting. It takes a buffer only for the attempt,
// so that a connection without news holds none.
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
	in.n, in.errno = int32(n), errno
	return true
}

// buffer returns a buffer that begins with what was left over and has room for
// the rest of the frame.
func (c *conn) buffer() []byte {
	in := &c.in
	if len(in.partial) >= largePartial {
		return in.partial[:cap(in.partial)]
	}
	in.pooled = readBuffers.Get().(*[readSize]byte)
	copy(in.pooled[:], in.partial)
	return in.pooled[:]
}

func (c *conn) release() {
	if c.in.pooled != nil {
		readBuffers.Put(c.in.pooled)
		c.in.pooled = nil
	}
}

// readHolding reads with a buffer of the connection's own.
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

// keep stores what remains of a read for the next one.
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
	default: // room for as much again: what was announced may never come
		in.partial = append(make([]byte, 0, min(need, 2*len(rest))), rest...)
	}
}

// whole notes that something came to its end: what follows has begun anew.
func (c *conn) whole() {
	if c.halfSince.Load() != 0 {
		c.halfSince.Store(0)
	}
}

// run handles what came behind Hello, and goes on.
func (c *conn) run() {
	early := c.in.partial
	c.in.partial = nil
	if len(early) > 0 {
		err := c.consume(early, c.handle)
		c.submit()
		if err != nil {
			c.ended(err)
			c.gone()
			return
		}
	}
	c.goOn()
}

// goOn reads and handles frames until the connection ends, or has been silent and
// another goroutine goes on.
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
		err = c.consume(buf, c.handle)
		c.release()
		c.submit()
		if err != nil {
			c.ended(err)
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

// cut splits the first frame of pim's protocol from buf. The frame is nil if
// what was cut off held none.
func (c *conn) cut(buf []byte) (frame, rest []byte, need int, err error) {
	limit := pim.MaxFrame
	if c.user == "" {
		limit = maxHello
	}
	if !c.websocket {
		if frame, rest, need, err = wire.CutTCP(buf, limit); frame != nil {
			c.whole()
		}
		return frame, rest, need, err
	}
	f, rest, need, err := cutWebSocket(buf, limit)
	if err != nil || need > 0 {
		return nil, rest, need, err
	}
	defer func() {
		if c.in.message == nil {
			c.whole()
		}
	}()
	switch f.op {
	case opPing:
		c.pong(f.payload)
		return nil, rest, 0, nil
	case opPong:
		return nil, rest, 0, nil
	case opClose:
		return nil, rest, 0, errClosed
	case opBinary, opContinuation:
		frame, err = c.in.join(f, limit)
		return frame, rest, 0, err
	}
	return nil, rest, 0, pim.Errorf(pim.KindInvalid, "a WebSocket message that is not binary")
}

// join puts fragments together; it returns the message when it is whole.
func (r *reader) join(f wsFrame, limit int) ([]byte, error) {
	if (f.op == opContinuation) != (r.message != nil) {
		return nil, pim.Errorf(pim.KindInvalid, "WebSocket fragments out of order")
	}
	if f.final && r.message == nil {
		if len(f.payload) == 0 {
			return nil, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
		}
		return f.payload, nil
	}
	if len(r.message)+len(f.payload) > limit {
		return nil, pim.Errorf(pim.KindTooLarge, "a frame of more than %d bytes", limit)
	}
	if r.message == nil {
		r.message = []byte{}
	}
	r.message = append(r.message, f.payload...)
	if !f.final {
		return nil, nil
	}
	whole := r.message
	r.message = nil
	if len(whole) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
	}
	return whole, nil
}

func (c *conn) pong(payload []byte) {
	c.mu.Lock()
	if c.closing || c.unsent > c.gw.Limits.QueueBytes {
		c.mu.Unlock()
		return
	}
	b := c.out
	if b == nil {
		b = takeBuffer()
	}
	c.appended(append(appendServerHeader(b, opPong, len(payload)), payload...))
	start := c.claim()
	c.mu.Unlock()
	if start {
		c.startSender()
	}
}

// farewell answers a close frame with one, RFC 6455 section 5.5.1, behind what is
// queued, and closes.
func (c *conn) farewell() {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	b := c.out
	if b == nil {
		b = takeBuffer()
	}
	c.appended(appendServerClose(b, uint16(ws.StatusNormalClosure), ""))
	c.closing = true
	c.tell()
	start := c.claim()
	c.mu.Unlock()
	if start {
		c.startSender()
	}
}

// ended closes after an error of reading: with a word to a client that did
// something wrong, without one if the connection is no more.
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

// awaitEnd waits until the last frame is written, or the janitor has had enough.
func (c *conn) awaitEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		c.await()
	}
}

// gone takes the connection out of the gateway.
func (c *conn) gone() {
	c.abort()
	c.gw.wheel.remove(c)
	c.gw.sessions.remove(c)
	c.gw.open.Add(-1)
	c.gw.Metrics.connections.Dec()
}
