package gateway

import "github.com/pim-im/pim/wire"

// turn is the right to queue frames for a connection. Its holder holds c.mu from begin until
// end, send or drop. It is the only way into what is written to a client.
type turn struct {
	c *conn
	q queueName // of the frames that are queued
}

// begin locks c.mu. If nothing more may be queued for c, ok is false, and c.mu is not locked.
func (c *conn) begin(q queueName) (t turn, ok bool) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return turn{}, false
	}
	return turn{c, q}, true
}

// beginWithin is begin once at most most bytes of q wait to be written. Until then the caller
// waits.
func (c *conn) beginWithin(q queueName, most int) (t turn, ok bool) {
	c.mu.Lock()
	for c.waiting(q) > most && !c.closing {
		c.await()
	}
	if c.closing {
		c.mu.Unlock()
		return turn{}, false
	}
	return turn{c, q}, true
}

// frame queues a frame with the body m.
func (t turn) frame(m wire.Message) {
	n := 1 + m.SizeVT()
	b := append(t.raw(n), byte(wire.TypeOf(m)))
	at := len(b)
	b = b[:at+n-1]
	if _, err := m.MarshalToSizedBufferVT(b[at:]); err != nil {
		panic("gateway: marshal: " + err.Error()) // the buffer has its size: cannot happen
	}
	t.put(b)
}

// copy queues an encoded frame.
func (t turn) copy(frame []byte) { t.put(append(t.raw(len(frame)), frame...)) }

// whole queues b, which is a frame with its header and belongs to the connection then.
func (t turn) whole(b []byte) {
	if len(b) <= chunkBytes {
		t.put(append(t.room(len(b)), b...))
		return
	}
	t.out().adopt(t.q, b)
}

// raw is room with the header of a frame of n bytes appended. The caller appends the frame.
func (t turn) raw(n int) []byte { return t.c.framing.appendHeader(t.room(maxHeader+n), n) }

// room returns what frames are appended to, with capacity for n bytes more, to be handed to put.
func (t turn) room(n int) []byte {
	return t.out().room(t.q, n)
}

func (t turn) out() *outbox {
	if t.c.out == nil {
		t.c.out = takeOutbox()
	}
	return t.c.out
}

// put queues what the caller has appended to b, which raw or room returned.
func (t turn) put(b []byte) { t.c.out.put(t.q, b) }

// answer queues the answer to a send, as entries, and ends the turn. The send is in flight until
// its answer is written: a client that reads no answers sends no more.
func (t turn) answer(m wire.Message) (claimed bool) {
	t.frame(m)
	t.c.out.answers()
	return t.end()
}

// fallBehind queues, as entries, that the device is to sync. Until that is taken its pushes are
// dropped.
func (t turn) fallBehind() {
	t.copy(behindPush)
	t.c.out.fallBehind()
}

// last queues, as entries, what the framing has after the last frame, and lets nothing be queued
// after that.
func (t turn) last(code uint16, text string) {
	if b := t.c.framing.appendClose(nil, code, text); len(b) > 0 {
		t.put(append(t.room(len(b)), b...))
	}
	t.c.seal()
}

// end unlocks c.mu. It reports whether the caller must call startSender, or write by itself as
// direct does.
func (t turn) end() (claimed bool) {
	claimed = !t.c.sending && !t.c.closed
	if claimed {
		t.c.sending = true
	}
	t.c.mu.Unlock()
	return claimed
}

// send ends the turn and has what was queued written.
func (t turn) send() {
	if t.end() {
		t.c.startSender()
	}
}

// drop ends a turn in which nothing was queued.
func (t turn) drop() { t.c.mu.Unlock() }
