package gateway

import (
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
	// Set at construction.
	gw  *Gateway
	nc  net.Conn
	raw syscall.RawConn // nil if bytes cannot be awaited without a buffer: over TLS, or from a proxy
	id  uint64

	// Set by the handshake, before the connection is among the Sessions.
	user      pim.UserID
	device    pim.DeviceID
	expires   uint32       // when the token ends, leeway included, in s since 1970; see lasts
	issued    uint32       // when it was issued, in s since 1970; 0: it does not say
	withdrawn *atomic.Bool // turns true when the token's key is withdrawn; nil: it never is

	in    reader         // owned by the reading goroutine, but for used
	typed *recentlyTyped // nil until the user writes somewhere; owned by the reading goroutine

	// For the janitor. The times are those of Gateway.elapsed, 0 for none. Whoever
	// makes a limit begin calls lookBy.
	lastRead  atomic.Int64
	halfSince atomic.Int64  // when an unfinished frame began, or last grew by readStep
	writing   atomic.Int64  // when the write of the current writeStep began
	spot      spot          // guarded by the wheel
	heartbeat atomic.Uint32 // ms between heartbeats that the client announced; 0: none

	inFlight int32 // sends whose answer has not been written; guarded by mu, and here because there is room

	// Guarded by mu.
	mu      sync.Mutex
	changed *sync.Cond // nil until somebody waits, see await
	out     *outbox    // nil: nothing is to be written
	tasks   *taskRun   // nil: no pull or sync is to be served
	sending bool       // somebody has claimed the sending, see enqueuer.end: it is under way, or about to begin
	closing bool       // nothing more may be queued; set by seal
	closed  bool       // nc is closed

	parting parting // see linger.go

	submitting bool // sends are being handed to their writers

	catching bool // the device fetches what it has not got: its last sync listed something, or it was told to sync

	begins bool // tasks of the read that is being handled begin a run, for serve; owned by the reading goroutine

	framing framing // set at construction
}

func newConn(g *Gateway, nc net.Conn, f framing) *conn {
	c := &conn{gw: g, nc: nc, framing: f, id: g.ids.Add(1)}
	c.lastRead.Store(g.elapsed())
	c.raw = rawConn(nc)
	boundUnsent(nc)
	return c
}

// await waits for the next call of tell. Then there may be room in out, an answer may have been
// written, or the connection may have ended. c.mu is held, as for tell. Few connections ever
// wait, so the Cond is made when it is needed.
func (c *conn) await() {
	if c.changed == nil {
		c.changed = sync.NewCond(&c.mu)
	}
	c.changed.Wait()
}

// tell ends all waits in await.
func (c *conn) tell() {
	if c.changed != nil {
		c.changed.Broadcast()
	}
}

// unsent returns how many bytes wait to be written. c.mu is held.
func (c *conn) unsent() int {
	if c.out == nil {
		return 0
	}
	return c.out.bytes()
}

// waiting returns how many bytes of q wait to be written. c.mu is held.
func (c *conn) waiting(q queueName) int {
	if c.out == nil {
		return 0
	}
	return c.out.queues[q].bytes
}

// behind reports whether pushes are dropped because the device has not taken those before them.
// c.mu is held.
func (c *conn) behind() bool { return c.out != nil && c.out.behind }

// name returns the connection's ID as Welcome and the log give it.
func (c *conn) name() string { return strconv.FormatUint(c.id, 16) }

func (c *conn) log() *slog.Logger {
	return c.gw.Logger.With("conn", c.name(), "user", string(c.user), "device", string(c.device))
}

// startSender starts the sending goroutine. The caller has claimed the sending, see enqueuer.end.
func (c *conn) startSender() {
	if !c.gw.start(c.send) {
		c.abort()
	}
}

// reply queues one frame among the commands and has it written. It waits while more than
// QueueBytes of them are unsent; if the reading goroutine waits here, nothing more is read.
func (c *conn) reply(m wire.Message) {
	if e, ok := c.beginWithin(commands, c.gw.Limits.QueueBytes); ok {
		e.frame(m)
		e.send()
	}
}

type ackScratch struct{ ack wirepb.PIMSendAck }

// answer queues the answer to a send. It reports whether the caller must start the
// sender.
func (c *conn) answer(a *conv.Answer, s *ackScratch) bool {
	e, ok := c.begin(entries)
	if !ok {
		return false
	}
	r := a.Request
	if a.Err != nil {
		m := c.gw.refusal(a.Err)
		m.ClientMessageId = r.ClientID[:]
		m.Conversation = named(string(r.Conversation))
		return e.answer(m)
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
	s.ack.AllCount, s.ack.MentionCounts = a.AllCount, a.Mentions
	s.ack.Count = a.Count
	s.ack.Duplicate = a.Duplicate
	s.ack.Payload = a.Payload
	return e.answer(&s.ack)
}

// push queues the entries of part that are for this connection, whose user may read the
// seqs from..to. If the device is behind it drops them. It reports whether the caller must
// start the sender.
func (c *conn) push(part *pushPart, from, to pim.Seq) bool {
	var few [8]span
	spans, size := part.spans(few[:0], c.user, c.device, from, to)
	if size == 0 {
		return false
	}
	e, ok := c.begin(entries)
	if !ok {
		return false
	}
	if c.behind() {
		e.drop()
		c.gw.Metrics.dropBehind.Inc()
		return false
	}
	if n := c.waiting(entries); n > 0 && n+size > c.gw.Limits.QueueBytes {
		e.fallBehind()
		c.gw.Metrics.dropSlow.Inc()
		return e.end()
	}
	b := append(e.raw(len(part.head)+size), part.head...)
	for _, s := range spans {
		b = append(b, part.body[s.from:s.to]...)
	}
	e.put(b)
	c.gw.Metrics.pushes.Inc()
	return e.end()
}

// send is the sending goroutine. It writes what is queued until nothing is; after the
// last frame it closes the connection, or leaves that to linger.
func (c *conn) send() {
	var err error
	c.mu.Lock()
	for err == nil && c.out != nil {
		buf := c.out.take()
		buf = buf[:min(len(buf), writeStep)]
		c.mu.Unlock()
		err = c.write(buf)
		c.mu.Lock()
		c.wrote(len(buf)) // after an error, too: then buf is lost
	}
	if err != nil {
		c.seal() // a part of a frame may have been written, so nothing may follow
	}
	c.sending = false
	end, linger := c.closing, c.parting != noParting && err == nil
	c.mu.Unlock()
	switch {
	case end && linger:
		c.closeWrite()
	case end:
		if err == nil {
			c.part()
		}
		c.abort()
	}
}

// wrote notes that n bytes of what c.out.take returned are written. c.mu is held.
func (c *conn) wrote(n int) {
	c.inFlight -= c.out.wrote(n)
	if c.out.bytes() == 0 {
		if c.out.owes {
			c.out.owes = false
			c.gw.Sessions.tellOwed(c)
		}
		giveOutbox(c.out)
		c.out = nil
	}
	c.tell()
}

// writeStep is how many bytes must be taken within each Limits.Write. A limit on all
// that is queued would close a client that takes as much as its slow link allows.
const writeStep = 32 << 10

// write writes buf, of at most writeStep bytes.
func (c *conn) write(buf []byte) error {
	now := c.gw.elapsed()
	c.writing.Store(now)
	defer c.writing.Store(0)
	c.lookBy(now + c.gw.Limits.Write.Milliseconds() + 1)
	_, err := c.nc.Write(buf)
	return err
}

// shut queues a PIMGoAway as the last frame and closes once it is written.
func (c *conn) shut(code wire.Code, text string) { c.shutFor(code, text, c.gw.window(code)) }

// shutFor is shut for a client that is to come back within window, if code lets it come back.
func (c *conn) shutFor(code wire.Code, text string, window time.Duration) {
	c.shutTo(code, text, window, nil)
}

// shutTo is shutFor for a client that is told of other gateways.
func (c *conn) shutTo(code wire.Code, text string, window time.Duration, others []string) {
	c.leaveWith(nil, code, text, window, others)
}

// leaveWith is shutTo for a client that is told why in a frame of its own; nil: it is not.
func (c *conn) leaveWith(why *wirepb.PIMError, code wire.Code, text string, window time.Duration, others []string) {
	if !code.Reconnect() {
		window = 0
	}
	e, ok := c.begin(entries)
	if !ok {
		return
	}
	if why != nil {
		e.frame(why)
	}
	e.frame(&wirepb.PIMGoAway{
		Code: uint32(code), Text: text, Reconnect: code.Reconnect(),
		WindowMs: uint32(window / time.Millisecond), Alternatives: others,
	})
	e.last(uint16(code), text)
	claimed := e.end()
	c.gw.Metrics.closed(code)
	c.log().Debug("closing", "code", code.String(), "text", text)
	if claimed {
		c.startSender()
	}
}

// goAway sends the client away because the gateway stops.
func (c *conn) goAway() {
	f := Farewell{Window: c.gw.Limits.Drain}
	if said := c.gw.farewell.Load(); said != nil {
		f = *said
	}
	c.sendAway("the server is shutting down", f)
}

// sendAway has the client go to another gateway.
func (c *conn) sendAway(text string, f Farewell) {
	var others []string
	if f.Others != nil {
		others = f.Others(c.transport())
	}
	c.shutTo(wire.CodeShutdown, text, f.Window, others)
}

// window returns the time over which clients that were sent away with code spread their
// return; 0 if they do not come back. A code about the node sends many away at once, and
// they get the long window, Limits.Drain. A code about one client does not.
func (g *Gateway) window(code wire.Code) time.Duration {
	switch {
	case !code.Reconnect():
		return 0
	case code == wire.CodeShutdown || code == wire.CodeOverloaded || code == wire.CodeUnavailable:
		return g.Limits.Drain
	}
	return g.Limits.Reconnect
}

// seal lets nothing more be queued. So no pull or sync can be answered any more, and those
// under way are called off. c.mu is held.
func (c *conn) seal() {
	c.closing = true
	if c.tasks != nil && c.tasks.cancel != nil {
		c.tasks.cancel()
	}
	c.tell()
}

// Gone reports whether no answer can be queued for the connection any more. Package route asks it
// before it sends a request to a node again.
func (c *conn) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// abort closes the connection at once; what is queued is lost. The reading goroutine
// notices and calls gone.
func (c *conn) abort() {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.seal()
	c.mu.Unlock()
	if !was {
		c.nc.Close()
	}
}
