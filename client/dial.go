package client

import (
	"context"
	"time"

	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
)

const (
	// maxDials is how many dials may be under way: a round's, and those of earlier
	// ones that are still being given up.
	maxDials   = 16
	maxDialing = 15 * time.Second
)

// dialled is the outcome of a dial.
type dialled struct {
	attempt uint64
	conn    transport.Conn
	token   string
	err     error
}

// dial gets a token and connects, in a goroutine of its own; the outcome comes on
// c.dialled, unless the loop has ended.
func (c *Client) dial(to engine.Dial) {
	ctx, cancel := context.WithTimeout(c.ctx, maxDialing)
	c.loop.dialling[to.Attempt] = cancel
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		defer cancel()
		d := dialled{attempt: to.Attempt}
		d.conn, d.token, d.err = c.connectTo(ctx, to.Server)
		select {
		case c.dialled <- d:
		case <-c.closed:
			if d.conn != nil {
				d.conn.Close()
			}
		}
	}()
}

func (c *Client) connectTo(ctx context.Context, server string) (transport.Conn, string, error) {
	dialer := c.dialers[server]
	if dialer == nil { // named by a server
		var err error
		if dialer, err = transport.NewDialer(server, c.options.TLS, c.options.Dial); err != nil {
			return nil, "", err
		}
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, "", err
	}
	conn, err := dialer.Dial(ctx)
	return conn, token, err
}

// token asks the app for a token, one call at a time.
func (c *Client) token(ctx context.Context) (string, error) {
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
		return c.options.Token(ctx)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// hangUp ends an attempt: its connection, or the making of it.
func (c *Client) hangUp(attempt uint64) {
	if cancel := c.loop.dialling[attempt]; cancel != nil {
		cancel()
		delete(c.loop.dialling, attempt)
	}
	if l := c.loop.link; l != nil && l.attempt == attempt {
		c.letGo()
	}
}

// letGo drops the connection. Closing one may take a while on a dead network,
// and nobody needs to wait for it.
func (c *Client) letGo() {
	l := c.loop.link
	if l == nil {
		return
	}
	c.loop.link = nil
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		l.close()
	}()
}

// connect takes the outcome of a dial.
func (c *Client) connect(d dialled) {
	_, wanted := c.loop.dialling[d.attempt]
	delete(c.loop.dialling, d.attempt)
	switch {
	case d.conn == nil && wanted:
		c.step(engine.Lost{Attempt: d.attempt, Err: d.err})
	case d.conn == nil:
	case !wanted || c.loop.broken != nil:
		c.wg.Go(func() { d.conn.Close() }) // it may take its time
	default:
		c.letGo()
		c.loop.link = newLink(d.attempt, d.conn)
		c.step(engine.Dialled{Attempt: d.attempt, Token: d.token})
	}
}
