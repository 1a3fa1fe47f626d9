package gateway

import "github.com/pim-im/pim/wire"

// enqueuer queues frames for a connection, and is the only way to do so. Whoever has one holds
// c.mu from begin until end, send or drop.
type enqueuer struct {
	c *conn
	q queueName // of the frames that are queued
}

// begin locks c.mu and returns an enqueuer for q. If nothing more may be queued for c, ok is
// false, and c.mu is not locked.
func (c *conn) begin(q queueName) (e enqueuer, ok bool) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return enqueuer{}, false
	}
	return enqueuer{c, q}, true
}

// beginWithin waits until at most most bytes of q wait to be written. Then it does what begin
// does.
func (c *conn) beginWithin(q queueName, most int) (e enqueuer, ok bool) {
	c.mu.Lock()
	for c.waiting(q) > most && !c.closing {
		c.await()
	}
	if c.closing {
		c.mu.Unlock()
		return enqueuer{}, false
	}
	return enqueuer{c, q}, true
}

// frame queues a frame with the body m.
func (e enqueuer) frame(m wire.Message) {
	n := 1 + m.SizeVT()
	b := append(e.raw(n), byte(wire.TypeOf(m)))
	at := len(b)
	b = b[:at+n-1]
	if _, err := m.MarshalToSizedBufferVT(b[at:]); err != nil {
		panic("gateway: marshal: " + err.Error()) // the buffer has its size: cannot happen
	}
	e.put(b)
}

// copy queues an encoded frame.
func (e enqueuer) copy(frame []byte) { e.put(append(e.raw(len(frame)), frame...)) }

// whole queues b, a frame with its header. b belongs to the connection from then on.
func (e enqueuer) whole(b []byte) {
	if len(b) <= chunkBytes {
		e.put(append(e.room(len(b)), b...))
		return
	}
	e.out().adopt(e.q, b)
}

// raw returns what room does, with the header of a frame of n bytes appended. The caller
// appends the frame, and hands the result to put.
func (e enqueuer) raw(n int) []byte { return e.c.framing.appendHeader(e.room(maxHeader+n), n) }

// room returns the slice to which the caller appends whole frames of up to n bytes; put takes the
// result.
func (e enqueuer) room(n int) []byte {
	return e.out().room(e.q, n)
}

func (e enqueuer) out() *outbox {
	if e.c.out == nil {
		e.c.out = takeOutbox()
	}
	return e.c.out
}

// put queues what the caller has appended to b, which raw or room returned.
func (e enqueuer) put(b []byte) { e.c.out.put(e.q, b) }

// answer queues the answer to a send among the entries, and does what end does. The send is in
// flight until its answer is written: a client that reads no answers sends no more.
func (e enqueuer) answer(m wire.Message) (claimed bool) {
	e.frame(m)
	e.c.out.answers()
	return e.end()
}

// fallBehind queues among the entries a frame that tells the device to sync. Its pushes are dropped
// until the frame is about to be written.
func (e enqueuer) fallBehind() {
	e.copy(behindPush)
	e.c.out.fallBehind()
	e.c.catching = true
}

// last queues among the entries what the framing has after the last frame. Nothing can be queued
// after that.
func (e enqueuer) last(code uint16, text string) {
	if b := e.c.framing.appendClose(nil, code, text); len(b) > 0 {
		e.put(append(e.room(len(b)), b...))
	}
	e.c.seal()
}

// end unlocks c.mu. If it reports true, the caller has claimed the sending: it must call
// startSender, or write by itself as direct does.
func (e enqueuer) end() (claimed bool) {
	claimed = !e.c.sending && !e.c.closed
	if claimed {
		e.c.sending = true
	}
	e.c.mu.Unlock()
	return claimed
}

// send does what end does, and has what was queued written.
func (e enqueuer) send() {
	if e.end() {
		e.c.startSender()
	}
}

// drop unlocks c.mu when nothing was queued.
func (e enqueuer) drop() { e.c.mu.Unlock() }
