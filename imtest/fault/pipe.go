package fault

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	chunkBytes = 4 << 10
	maxChunks  = 64 // on the way in one direction
)

// pipe is one direction of a connection. One goroutine reads chunks and settles when
// each of them arrives; another goroutine writes each chunk at that time.
type pipe struct {
	c     *conn
	up    bool
	rng   *rand.Rand // used by the reading goroutine only
	queue chan chunk

	// Guarded by mu.
	mu      sync.Mutex
	taken   int  // bytes read, whatever becomes of them
	doomed  bool // nothing passes any more, not even the end of the connection
	limited bool // the connection is cut when left bytes have passed
	left    int
}

// chunk is what one read brought.
type chunk struct {
	data []byte
	due  time.Time
	err  error // the source's end, after data
}

func newPipe(c *conn, up bool, number uint64) *pipe {
	stream := number << 1
	if up {
		stream++
	}
	return &pipe{c: c, up: up, rng: rand.New(rand.NewPCG(c.p.seed, stream)), queue: make(chan chunk, maxChunks)}
}

func (w *pipe) run(from, to *net.TCPConn) {
	var wg sync.WaitGroup
	wg.Go(func() { w.read(from) })
	w.write(to)
	wg.Wait()
}

func (w *pipe) path(c *Conditions) *Path {
	if w.up {
		return &c.Up
	}
	return &c.Down
}

func (w *pipe) read(from *net.TCPConn) {
	defer close(w.queue)
	var busy, last time.Time
	for {
		data := make([]byte, chunkBytes)
		n, err := from.Read(data)
		now, _ := w.c.p.now()
		busy, last = w.path(&now).due(n, time.Now(), busy, last, w.rng.Float64)
		w.took(n)
		select {
		case w.queue <- chunk{data[:n], last, err}:
		case <-w.c.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (w *pipe) write(to *net.TCPConn) {
	for ch := range w.queue {
		if !w.await(ch.due) {
			return
		}
		if len(ch.data) > 0 && !w.pass(to, ch.data) {
			return
		}
		if ch.err != nil {
			w.end(to, ch.err)
		}
	}
}

// await waits until due, and then while the path is on hold. It dooms the pipe if the
// path is a black hole by then. It reports false if the connection has ended.
func (w *pipe) await(due time.Time) bool {
	if wait := time.Until(due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-w.c.ctx.Done():
			return false
		}
	}
	for {
		now, changed := w.c.p.now()
		path := w.path(&now)
		if path.BlackHole {
			w.doom()
		}
		if !path.Hold {
			return w.c.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-w.c.ctx.Done():
			return false
		}
	}
}

// pass writes data, up to where the connection is to be cut. It reports false
// when it has been cut.
func (w *pipe) pass(to *net.TCPConn, data []byte) bool {
	w.mu.Lock()
	doomed, cut := w.doomed, w.limited && len(data) >= w.left
	if cut {
		data = data[:w.left]
	}
	w.left -= len(data)
	w.mu.Unlock()
	if doomed {
		return true
	}
	if _, err := to.Write(data); err != nil {
		// The receiver is gone. The other pipe, which reads from it, reports that.
		w.doom()
	}
	if cut {
		w.c.cancel()
	}
	return !cut
}

// end passes the source's end on, unless the end is lost too.
func (w *pipe) end(to *net.TCPConn, err error) {
	now, _ := w.c.p.now()
	switch {
	case now.HalfOpen || w.isDoomed():
		w.c.doom() // what the other side sends goes nowhere
	case errors.Is(err, io.EOF):
		_ = to.CloseWrite() // fails if to is gone too
	default:
		w.c.cancel()
	}
	w.c.over()
}

func (w *pipe) took(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken += n
}

func (w *pipe) doom() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doomed = true
}

func (w *pipe) isDoomed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doomed
}

func (w *pipe) cutAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.limited = n, true
}
