package gateway

import "sync"

// outbox holds what waits to be written to one client, in chunks of whole frames. It does no I/O
// and has no lock: conn.mu guards it. A connection has one only while it has something to write.
type outbox struct {
	chunks []chunk // new frames go to the last
	under  chunk   // taken, and not written to its end
	done   int     // bytes of under that are written
	bytes  int     // in chunks, and of under what is not written
	spare  []byte  // empty, for the next chunk; nil: it is in use
}

// chunk is what is written at a time. Frames go into it up to chunkBytes; only a single frame may
// be larger.
type chunk struct {
	bytes   []byte
	answers int32 // how many sends are answered in bytes
}

const chunkBytes = writeStep

// room returns the chunk for new frames, with capacity for n bytes more. The caller appends to it
// and hands it to put.
func (o *outbox) room(n int) []byte {
	var b []byte
	if last := len(o.chunks) - 1; last >= 0 && len(o.chunks[last].bytes)+n <= chunkBytes {
		b = o.chunks[last].bytes
	} else {
		if b, o.spare = o.spare, nil; b == nil {
			b = takeBuffer()
		}
		o.chunks = append(o.chunks, chunk{bytes: b})
	}
	if need := len(b) + n; need > cap(b) {
		b = append(make([]byte, 0, max(need, min(2*cap(b), chunkBytes))), b...)
	}
	return b
}

// put queues what the caller has appended to b, which is from room.
func (o *outbox) put(b []byte) {
	last := &o.chunks[len(o.chunks)-1]
	o.bytes += len(b) - len(last.bytes)
	last.bytes = b
}

// answers notes that the frame that was put last is the answer to a send.
func (o *outbox) answers() { o.chunks[len(o.chunks)-1].answers++ }

// take returns what is to be written next: the rest of the chunk under way, or the next chunk;
// nil if nothing waits. wrote must be told how much of it is written.
func (o *outbox) take() []byte {
	if o.under.bytes == nil {
		if len(o.chunks) == 0 {
			return nil
		}
		o.under = o.chunks[0]
		n := copy(o.chunks, o.chunks[1:])
		o.chunks[n] = chunk{}
		o.chunks = o.chunks[:n]
	}
	return o.under.bytes[o.done:]
}

// wrote notes that n bytes of what take returned are written. It returns how many sends are
// answered by that: those whose chunk is written to its end.
func (o *outbox) wrote(n int) (answered int32) {
	o.bytes -= n
	if o.done += n; o.done < len(o.under.bytes) {
		return 0
	}
	answered = o.under.answers
	switch b := o.under.bytes[:0]; {
	case cap(b) > keepBuffer: // left to the garbage collector
	case o.spare == nil:
		o.spare = b
	default:
		giveBuffer(b)
	}
	o.under, o.done = chunk{}, 0
	return answered
}

// small reports whether all that waits is one chunk of at most writeStep bytes, untouched.
func (o *outbox) small() bool {
	return o.under.bytes == nil && len(o.chunks) == 1 && o.bytes <= writeStep
}

// Outboxes keep a buffer each while they are in their pool, so that a connection with little to
// write needs one object of a pool for it.

const keepBuffer = 64 << 10 // bytes; larger buffers are left to the garbage collector

var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func takeOutbox() *outbox { return outboxes.Get().(*outbox) }

// giveOutbox puts o, in which nothing waits, into the pool.
func giveOutbox(o *outbox) { outboxes.Put(o) }

// buffers are for further chunks.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func takeBuffer() []byte {
	p := buffers.Get().(*[]byte)
	if *p == nil {
		*p = make([]byte, 0, 4096)
	}
	return (*p)[:0]
}

func giveBuffer(b []byte) { buffers.Put(&b) }
