package gateway

import "sync"

// queueName names a queue of an outbox.
type queueName uint8

const (
	// commands has the frames that say nothing about a log: Welcome, pongs, times, and all errors
	// except a writer's refusals of sends. This queue leaves first: a slow client hears from the
	// server in time, however many pushes are on their way to it.
	commands queueName = iota
	// entries has the frames that say how far logs go: acks, pushes, pages of syncs and pulls,
	// and a writer's refusals. They stay in their order: a client that hears of a seq pulls the
	// entries that it lacks below that seq, and must not pull those that are on their way. The
	// last frame of a connection goes here, too.
	entries
	queueNames
)

// outbox holds what waits to be written to one client: queues of chunks of whole frames. It does
// no I/O and has no lock: conn.mu guards it. A connection has one only while it has something to
// write.
type outbox struct {
	queues [queueNames]queue
	under  chunk     // being written: the rest of it goes before all else; no bytes: none
	from   queueName // the queue of under
	done   int       // bytes of under that are written
	spare  []byte    // empty, for the next chunk; nil: it is in use
	behind bool      // a frame waits that tells the device to sync, see fallBehind
	owes   bool      // what is on the device's screen was not told, and is when nothing waits any more
}

type queue struct {
	chunks []chunk // new frames go to the last
	bytes  int     // in chunks, and what is not written of under if that is from here
}

// chunk is written to its end before a chunk of the other queue. It has frames of up to
// chunkBytes together, or a single larger one.
type chunk struct {
	bytes   []byte
	answers int32 // how many sends are answered in bytes
	tells   bool  // bytes have the frame that tells the device to sync, see outbox.behind
}

const chunkBytes = writeStep

// last returns the chunk that got the last frame of q.
func (o *outbox) last(q queueName) *chunk {
	chunks := o.queues[q].chunks
	return &chunks[len(chunks)-1]
}

// room returns the bytes of the chunk for new frames of q, with capacity for n bytes more. The
// caller appends frames to them, and hands the result to put.
func (o *outbox) room(q queueName, n int) []byte {
	chunks := o.queues[q].chunks
	if len(chunks) > 0 && len(o.last(q).bytes)+n <= chunkBytes {
		return grow(o.last(q).bytes, n)
	}
	var b []byte
	if n <= chunkBytes { // a larger frame gets a buffer of its size
		if b, o.spare = o.spare, nil; b == nil {
			b = takeBuffer()
		}
	}
	o.queues[q].chunks = append(chunks, chunk{bytes: b})
	return grow(b, n)
}

// grow returns b with capacity for n bytes more.
func grow(b []byte, n int) []byte {
	if need := len(b) + n; need > cap(b) {
		b = append(make([]byte, 0, max(need, min(2*cap(b), chunkBytes))), b...)
	}
	return b
}

// put queues what the caller has appended to b, which is from room.
func (o *outbox) put(q queueName, b []byte) {
	last := o.last(q)
	o.queues[q].bytes += len(b) - len(last.bytes)
	last.bytes = b
}

// adopt queues b, whole frames of more than chunkBytes, as a chunk of its own.
func (o *outbox) adopt(q queueName, b []byte) {
	o.queues[q].chunks = append(o.queues[q].chunks, chunk{bytes: b})
	o.queues[q].bytes += len(b)
}

// answers notes that the last frame of entries is the answer to a send.
func (o *outbox) answers() { o.last(entries).answers++ }

// fallBehind notes that the last frame of entries tells the device to sync, because pushes were
// dropped. Until the frame is taken, more pushes may be dropped: the device syncs when it gets the
// frame, and so finds their entries.
func (o *outbox) fallBehind() { o.behind, o.last(entries).tells = true, true }

// bytes returns how many bytes wait to be written.
func (o *outbox) bytes() int { return o.queues[commands].bytes + o.queues[entries].bytes }

// take returns what is to be written next: the rest of the chunk under way, or the next chunk;
// nil if nothing waits. wrote must be told how much of it is written.
func (o *outbox) take() []byte {
	if o.under.bytes == nil {
		o.from = commands
		if len(o.queues[commands].chunks) == 0 {
			o.from = entries
		}
		chunks := o.queues[o.from].chunks
		if len(chunks) == 0 {
			return nil
		}
		o.under = chunks[0]
		n := copy(chunks, chunks[1:])
		chunks[n] = chunk{}
		o.queues[o.from].chunks = chunks[:n]
		if o.under.tells {
			o.behind = false
		}
	}
	return o.under.bytes[o.done:]
}

// wrote notes that n bytes of what take returned are written. It returns how many sends are
// answered by that: those whose chunk is written to its end.
func (o *outbox) wrote(n int) (answered int32) {
	o.queues[o.from].bytes -= n
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
	chunks := len(o.queues[commands].chunks) + len(o.queues[entries].chunks)
	return o.under.bytes == nil && chunks == 1 && o.bytes() <= writeStep
}

// An outbox in the pool keeps a buffer. So a connection with little to write takes one object
// from one pool.

const keepBuffer = 64 << 10 // bytes; larger buffers are left to the garbage collector

var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func takeOutbox() *outbox { return outboxes.Get().(*outbox) }

// giveOutbox puts o, in which nothing waits, into the pool.
func giveOutbox(o *outbox) { outboxes.Put(o) }

// buffers are for chunks when there is no spare one.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func takeBuffer() []byte {
	p := buffers.Get().(*[]byte)
	if *p == nil {
		*p = make([]byte, 0, 4096)
	}
	return (*p)[:0]
}

func giveBuffer(b []byte) { buffers.Put(&b) }
