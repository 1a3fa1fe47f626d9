package client

import (
	"errors"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/wire"
)

const (
	maxUnread = 16                     // frames that wait for the loop
	maxUnsent = 8 << 20                // bytes that wait for the writing goroutine
	lastWords = 250 * time.Millisecond // for frames that are queued when the client is closed
)

// link is one connection, with a goroutine that reads and one that writes. The loop
// owns it. Once the loop has let go of a link, what the link still reads is dropped.
type link struct {
	attempt uint64
	conn    transport.Conn
	in      chan engine.Input // Frame, and at the end Lost
	gone    chan struct{}     // closed when the loop lets go
	wake    chan struct{}     // wakes the writing goroutine; capacity 1
	wg      sync.WaitGroup

	// mu guards everything below.
	mu       sync.Mutex
	queue    [][]byte
	queued   int       // bytes in queue
	busy     time.Time // since when frames wait to be written or are being written; zero: none
	finished bool      // nothing will be queued any more
	cause    error
}

func newLink(attempt uint64, conn transport.Conn) *link {
	l := &link{
		attempt: attempt, conn: conn, in: make(chan engine.Input, maxUnread),
		gone: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	l.wg.Add(2)
	go l.read()
	go l.write()
	return l
}

func (l *link) read() {
	defer l.wg.Done()
	for {
		in := l.next()
		select {
		case l.in <- in:
		case <-l.gone:
			return
		}
		if _, lost := in.(engine.Lost); lost {
			return
		}
	}
}

// next reads one frame and decodes it.
func (l *link) next() engine.Input {
	frame, err := l.conn.Read()
	if err == nil {
		var m wire.Message
		if _, m, err = wire.Decode(frame); err == nil {
			return engine.Frame{Attempt: l.attempt, Message: m}
		}
	}
	lost := engine.Lost{Attempt: l.attempt, Err: err}
	var closed *transport.CloseError
	if errors.As(err, &closed) {
		lost.Code = closed.Code
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil { // fail closed the connection, which ended the reading
		lost.Err = l.cause
	}
	return lost
}

// send queues frames. The engine bounds what is under way, so the queue's bound
// is reached only if the network takes nothing for long; then the connection
// ends.
func (l *link) send(frames []wire.Message) {
	l.mu.Lock()
	if l.busy.IsZero() {
		l.busy = time.Now()
	}
	for _, m := range frames {
		f := wire.Append(nil, m)
		l.queue = append(l.queue, f)
		l.queued += len(f)
	}
	over := l.queued > maxUnsent
	l.mu.Unlock()
	if over {
		l.fail(pim.Errorf(pim.KindTimeout, "the connection does not take what is sent"))
	}
	l.poke()
}

// moved returns when bytes last moved on the connection, either way, if it is busy: a
// frame has arrived in part, or the loop has not taken one yet, or frames wait to be
// written. If the connection is idle, moved returns the zero time.
func (l *link) moved() time.Time {
	if len(l.in) > 0 {
		return time.Now()
	}
	at := l.conn.Arriving()
	l.mu.Lock()
	busy := l.busy
	l.mu.Unlock()
	if busy.IsZero() {
		return at
	}
	for _, out := range []time.Time{busy, l.conn.Written()} {
		if out.After(at) {
			at = out
		}
	}
	return at
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) write() {
	defer l.wg.Done()
	for {
		select {
		case <-l.wake:
		case <-l.gone:
			return
		}
		for {
			l.mu.Lock()
			frames, finished := l.queue, l.finished
			l.queue, l.queued = nil, 0
			if len(frames) == 0 {
				l.busy = time.Time{}
			}
			l.mu.Unlock()
			if len(frames) == 0 {
				if finished {
					l.conn.Close()
					return
				}
				break
			}
			if err := l.conn.Write(frames); err != nil {
				l.fail(err)
				return
			}
		}
	}
}

// fail ends the connection; the reading goroutine then reports err.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = err
	}
	l.mu.Unlock()
	l.conn.Close()
}

// close lets go of the connection at once.
func (l *link) close() {
	close(l.gone)
	l.conn.Close()
	l.wg.Wait()
}

// finish lets go of the connection when the queue is written, or after
// lastWords.
func (l *link) finish() {
	l.mu.Lock()
	l.finished = true
	l.mu.Unlock()
	l.poke()
	t := time.NewTimer(lastWords)
	defer t.Stop()
	for {
		select {
		case in := <-l.in: // frames that come now are dropped; the next sync makes up for them
			if _, lost := in.(engine.Lost); !lost {
				continue
			}
		case <-t.C:
		}
		l.close()
		return
	}
}
