package fault

import (
	"context"
	"io"
	"net"
	"sync"
)

// conn is one client's connection together with the connection to the target that was
// made for it. Proxy.each calls cut and doom with Proxy.mu held, so nothing may take
// Proxy.mu while it holds conn.mu.
type conn struct {
	p      *Proxy
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	up     *pipe // from the client to the server
	down   *pipe

	// Guarded by mu.
	mu     sync.Mutex
	client *net.TCPConn
	server *net.TCPConn // nil until it is dialled, or if nobody is there
	ended  int          // how many pipes have a source that has ended
}

func newConn(p *Proxy, client *net.TCPConn, number uint64) *conn {
	c := &conn{p: p, client: client}
	c.ctx, c.cancel = context.WithCancel(p.ctx)
	c.up, c.down = newPipe(c, true, number), newPipe(c, false, number)
	return c
}

func (c *conn) pipe(up bool) *pipe {
	if up {
		return c.up
	}
	return c.down
}

// run serves the connection to its end. If server is nil, the client is reset; if
// silent is true, it is kept instead, and gets no answer.
func (c *conn) run(server *net.TCPConn, silent bool) {
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	defer c.reset()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // closes the sockets, so that whoever reads or writes returns
		<-c.ctx.Done()
		c.reset()
	})
	defer c.cancel()
	switch {
	case silent:
		_, _ = io.Copy(io.Discard, c.client) // however it ends
		return
	case server == nil:
		return
	}
	var pipes sync.WaitGroup
	pipes.Go(func() { c.up.run(c.client, server) })
	pipes.Go(func() { c.down.run(server, c.client) })
	pipes.Wait()
}

// over notes that a pipe will pass nothing more, because its source has ended. When
// both sources have ended, the connection ends.
func (c *conn) over() {
	c.mu.Lock()
	c.ended++
	both := c.ended == 2
	c.mu.Unlock()
	if both {
		c.cancel()
	}
}

// cut resets side. If side is one side, the other side's connection stays, and what it
// sends vanishes.
func (c *conn) cut(side Side) {
	if side == Both {
		c.cancel()
		return
	}
	c.doom()
	c.mu.Lock()
	defer c.mu.Unlock()
	if side == ClientSide {
		reset(c.client)
	} else if c.server != nil {
		reset(c.server)
	}
}

// doom makes the connection a black hole both ways, for good.
func (c *conn) doom() {
	c.up.doom()
	c.down.doom()
}

func (c *conn) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	reset(c.client)
	if c.server != nil {
		reset(c.server)
	}
}
