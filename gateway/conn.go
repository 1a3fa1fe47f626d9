package gateway

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// conn is one connection of one device. Its idle size matters: see doc.go.
type conn struct {
	gw        *Gateway
	nc        net.Conn
	raw       syscall.RawConn // nil if bytes cannot be awaited without a buffer: TLS
	id        uint64
	user      pim.UserID   // set by the handshake, as the four that follow
	device    pim.DeviceID //
	expires   int64        // ms since 1970: when the token ends
	withdrawn *atomic.Bool // the key that signed the token is; nil: it cannot be

	in reader // the reading goroutine's

	// For the janitor; of Gateway.elapsed, 0 for none. What begins one calls lookBy.
	lastRead  atomic.Int64
	halfSince atomic.Int64 // when an unfinished frame began, or last made way by readStep
	writing   atomic.Int64 // when the write under way began
	spot      spot
	heartbeat atomic.Uint32 // ms between heartbeats that the client announced; 0: none

	websocket bool

	mu       sync.Mutex
	changed  *sync.Cond // see await
	out      []byte     // to be written, transport headers included
	unsent   int        // bytes in out and in the write under way
	inFlight int32      // sends whose answer has not been written
	answered int32      // how many of these answers are in out
	tasks    []task     // pulls and syncs to be served
	sending  bool       // the sending goroutine runs, or a Deliver will start it
	serving  bool       // the goroutine that serves tasks runs
	behind   bool       // pushes were dropped
	closing  bool       // out ends with the last frame
	closed   bool

	lingering bool // after the last frame the client is heard out, see linger.go
	said      bool // that frame is written

	submitting bool // sends are being handed to their writers
}

func newConn(g *Gateway, nc net.Conn, websocket bool) *conn {
	c := &conn{gw: g, nc: nc, websocket: websocket, id: g.ids.Add(1)}
	c.lastRead.Store(g.elapsed())
	c.raw = rawConn(nc)
	boundUnsent(nc)
	return c
}

// await waits until something changes: there is room in out, an answer, or the end.
// c.mu is held, as for tell. Few connections ever wait.
func (c *conn) await() {
	if c.changed == nil {
		c.changed = sync.NewCond(&c.mu)
	}
	c.changed.Wait()
}

// tell ends all waits.
func (c *conn) tell() {
	if c.changed != nil {
		c.changed.Broadcast()
	}
}

// name is the connection's ID as Welcome and the log give it.
func (c *conn) name() string { return strconv.FormatUint(c.id, 16) }

func (c *conn) log() *slog.Logger {
	return c.gw.Logger.With("conn", c.name(), "user", string(c.user), "device", string(c.device))
}

// appendFrame puts m at the end of out. c.mu is held.
func (c *conn) appendFrame(m wire.Message) {
	n := 1 + m.SizeVT()
	b := c.room(n)
	b = append(b, byte(wire.TypeOf(m)))
	at := len(b)
	b = b[:at+n-1]
	if _, err := m.MarshalToSizedBufferVT(b[at:]); err != nil {
		panic("gateway: marshal: " + err.Error()) // the buffer has its size: cannot happen
	}
	c.appended(b)
}

// appendRaw puts a whole frame at the end of out. c.mu is held.
func (c *conn) appendRaw(frame []byte) {
	c.appended(append(c.room(len(frame)), frame...))
}

// room returns out, with a header for a frame of n bytes at its end and space
// for the frame.
func (c *conn) room(n int) []byte {
	b := c.out
	if b == nil {
		b = takeBuffer()
	}
	if need := len(b) + maxHeader + n; need > cap(b) {
		b = append(make([]byte, 0, max(need, 2*cap(b))), b...)
	}
	if c.websocket {
		return appendServerHeader(b, opBinary, n)
	}
	return appendTCPHeader(b, n)
}

func (c *conn) appended(b []byte) {
	c.unsent += len(b) - len(c.out)
	c.out = b
}

// claim reports whether the caller is to call startSender. c.mu is held.
func (c *conn) claim() bool {
	if c.sending || c.closed {
		return false
	}
	c.sending = true
	return true
}

// startSender starts the sending goroutine; the caller has claimed it.
func (c *conn) startSender() {
	if !c.gw.start(c.send) {
		c.abort()
	}
}

// reply queues one frame, once there is room for it, and sees to it that it is
// written. While there is none the connection is not read.
func (c *conn) reply(m wire.Message) {
	c.mu.Lock()
	for c.unsent > c.gw.Limits.QueueBytes && !c.closing {
		c.await()
	}
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.appendFrame(m)
	start := c.claim()
	c.mu.Unlock()
	if start {
		c.startSender()
	}
}

type ackScratch struct{ ack wirepb.PIMSendAck }

// answer queues the answer to a send; it reports whether to start the sender.
func (c *conn) answer(a *conv.Answer, s *ackScratch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.answered++ // it is in flight until it is written: who takes no answers sends no more
	r := a.Request
	if a.Err != nil {
		m := c.gw.refusal(a.Err)
		m.ClientMessageId = r.ClientID[:]
		m.Conversation = named(string(r.Conversation))
		c.appendFrame(m)
		return c.claim()
	}
	s.ack.ClientMessageId = r.ClientID[:]
	s.ack.Conversation = string(r.Conversation)
	s.ack.Seq = uint64(a.Seq)
	s.ack.Anchor = 0
	if a.Anchor != a.Seq {
		s.ack.Anchor = uint64(a.Anchor)
	}
	s.ack.ServerMs = int64(a.Server)
	s.ack.AheadMs = int64(a.Ahead)
	s.ack.OrderMs = int64(a.Order)
	s.ack.Count = a.Count
	s.ack.Duplicate = a.Duplicate
	s.ack.Payload = a.Payload
	c.appendFrame(&s.ack)
	return c.claim()
}

// push queues what of part is for this connection, or drops it if the device is
// behind; it reports whether to start the sender.
func (c *conn) push(part *pushPart, from, to pim.Seq) bool {
	var few [8]span
	spans, size := part.spans(few[:0], c.user, c.device, from, to)
	if size == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return false
	case c.behind:
		c.gw.Metrics.dropBehind.Inc()
		return false
	case c.unsent > 0 && c.unsent+size > c.gw.Limits.QueueBytes:
		c.behind = true
		c.gw.Metrics.dropSlow.Inc()
		return false // the sender runs: something is unsent
	}
	b := append(c.room(len(part.head)+size), part.head...)
	for _, s := range spans {
		b = append(b, part.body[s.from:s.to]...)
	}
	c.appended(b)
	c.gw.Metrics.pushes.Inc()
	return c.claim()
}

// send writes what is queued until nothing is.
func (c *conn) send() {
	var err error
	c.mu.Lock()
	for err == nil {
		if len(c.out) == 0 && c.behind && !c.closing {
			c.behind = false
			c.appendRaw(behindPush)
		}
		buf, answered := c.out, c.answered
		if len(buf) == 0 {
			break
		}
		c.out, c.answered = nil, 0
		c.mu.Unlock()

		var last int
		last, err = c.write(buf)
		giveBuffer(buf)

		c.mu.Lock()
		c.unsent -= last
		c.inFlight -= answered
		c.tell()
	}
	c.sending = false
	end, linger := c.closing || err != nil, c.lingering && err == nil
	c.mu.Unlock()
	switch {
	case end && linger:
		c.closeWrite()
	case end:
		c.abort()
	}
}

// writeStep is what must make way within Limits.Write: a client on a slow link
// that takes what it can is not a slow client.
const writeStep = 32 << 10

// write writes buf and counts it down in unsent, but for the last step, which
// is left to the caller: most writes have one, and the caller locks c.mu anyway.
func (c *conn) write(buf []byte) (last int, err error) {
	defer c.writing.Store(0)
	for {
		n := min(len(buf), writeStep)
		now := c.gw.elapsed()
		c.writing.Store(now)
		c.lookBy(now + c.gw.Limits.Write.Milliseconds() + 1)
		if _, err := c.nc.Write(buf[:n]); err != nil {
			return n, err
		}
		if buf = buf[n:]; len(buf) == 0 {
			return n, nil
		}
		c.mu.Lock()
		c.unsent -= n
		c.tell()
		c.mu.Unlock()
	}
}

// shut queues a PIMGoAway as the last frame and closes once it is written.
func (c *conn) shut(code wire.Code, text string) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.appendFrame(&wirepb.PIMGoAway{
		Code: uint32(code), Text: text, Reconnect: code.Reconnect(),
		WindowMs: uint32(c.gw.window(code) / time.Millisecond),
	})
	if c.websocket {
		c.appended(appendServerClose(c.out, uint16(code), text))
	}
	c.closing = true
	c.tell()
	start := c.claim()
	c.mu.Unlock()
	c.gw.Metrics.closed(code)
	c.log().Debug("closing", "code", code.String(), "text", text)
	if start {
		c.startSender()
	}
}

func (c *conn) goAway() { c.shut(wire.CodeShutdown, "the server is shutting down") }

// window is over which time clients come back that were sent away with code: many
// at once, if it is about the node; if it is about them, each by itself.
func (g *Gateway) window(code wire.Code) time.Duration {
	switch {
	case !code.Reconnect():
		return 0
	case code == wire.CodeShutdown || code == wire.CodeOverloaded || code == wire.CodeUnavailable:
		return g.Limits.Drain
	}
	return g.Limits.Reconnect
}

// abort closes the connection as it is. The reading goroutine notices.
func (c *conn) abort() {
	c.mu.Lock()
	was := c.closed
	c.closed, c.closing = true, true
	c.tell()
	c.mu.Unlock()
	if !was {
		c.nc.Close()
	}
}

// Buffers for what is to be written: connections have one only while they write.

const keepBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func takeBuffer() []byte {
	p := buffers.Get().(*[]byte)
	if *p == nil {
		*p = make([]byte, 0, 4096)
	}
	return (*p)[:0]
}

func giveBuffer(b []byte) {
	if cap(b) <= keepBuffer {
		buffers.Put(&b)
	}
}

// ctx ends when the gateway closes; what runs for a connection is bounded by
// its own limits besides.
func (c *conn) ctx() context.Context { return c.gw.ctx }
