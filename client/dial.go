package client

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
)

const (
	// maxDials is the capacity of Client.dialled. It has room for the dials of a round,
	// and for those of earlier rounds that are still being given up.
	maxDials   = 16
	maxDialing = 15 * time.Second
	maxAsking  = 10 * time.Second // the part of maxDialing for the token
	maxToken   = 8 << 10          // bytes, as in the protocol
)

// dialled is the outcome of a dial.
type dialled struct {
	attempt uint64
	conn    transport.Conn
	token   string
	noToken *pim.Error // why the app gave none
	err     error
}

// dial gets a token, if token is empty, and connects, in a goroutine of its own; the outcome comes
// on c.dialled, unless the loop has ended.
func (c *Client) dial(to engine.Dial, token string) {
	ctx, cancel := context.WithTimeout(c.ctx, maxDialing)
	c.loop.dialling[to.Attempt] = cancel
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		defer cancel()
		d := c.connectTo(ctx, to, token)
		select {
		case c.dialled <- d:
		case <-c.closed:
			if d.conn != nil {
				d.conn.Close()
			}
		}
	}()
}

func (c *Client) connectTo(ctx context.Context, to engine.Dial, token string) dialled {
	d := dialled{attempt: to.Attempt, token: token}
	dialer := c.dialers[to.Server]
	if dialer == nil { // named by a server
		if dialer, d.err = c.options.dialer(to.Server); d.err != nil {
			return d
		}
	}
	if token == "" {
		d.token, d.noToken = c.token(ctx)
	}
	if d.noToken == nil {
		d.conn, d.err = c.dialServer(ctx, to.Server, dialer)
	}
	return d
}

// token asks the app for a token, one call at a time. It waits no longer than
// maxAsking, even for an app that does not heed its context.
func (c *Client) token(ctx context.Context) (string, *pim.Error) {
	ctx, cancel := context.WithTimeout(ctx, maxAsking)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
	case <-ctx.Done():
		return "", noToken(ctx.Err())
	}
	type answer struct {
		token string
		err   error
	}
	given := make(chan answer, 1)
	c.wg.Go(func() {
		defer func() { <-c.asking }()
		token, err := c.options.Token(ctx)
		given <- answer{token, err}
	})
	select {
	case a := <-given:
		if a.err != nil {
			return "", noToken(a.err)
		}
		return a.token, checkToken(a.token)
	case <-ctx.Done():
		return "", noToken(ctx.Err())
	}
}

// noToken returns err, for which the app gave no token, as a *pim.Error. If the app
// returned a *pim.Error, its kind and its RetryAfter are kept.
func noToken(err error) *pim.Error {
	e := &pim.Error{Op: "connect", Kind: pim.KindUnavailable, Text: "no token: " + err.Error(), Err: err}
	var own *pim.Error
	switch {
	case errors.As(err, &own):
		e.Kind, e.Text, e.RetryAfter = own.Kind, "no token: "+own.Text, own.RetryAfter
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Text = pim.KindTimeout, fmt.Sprintf("no token: Options.Token did not return one within %v", maxAsking)
	}
	return e
}

// checkToken refuses a token that a server could not even read: the server would end
// the connection for good.
func checkToken(token string) *pim.Error {
	switch {
	case token == "":
		return pim.Errorf(pim.KindUnauthorized, "Options.Token returned an empty token")
	case len(token) > maxToken:
		return pim.Errorf(pim.KindUnauthorized, "Options.Token returned a token of %d bytes, at most %d are allowed", len(token), maxToken)
	case !utf8.ValidString(token):
		return pim.Errorf(pim.KindUnauthorized, "Options.Token returned a token that is not UTF-8")
	}
	return nil
}

// hangUp ends an attempt: it cancels the dial, or closes the connection.
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
	case d.noToken != nil && wanted:
		c.step(engine.NoToken{Attempt: d.attempt, Err: d.noToken})
	case d.conn == nil && wanted:
		c.step(engine.Lost{Attempt: d.attempt, Err: d.err})
	case d.conn == nil:
	case !wanted || c.loop.broken != nil:
		c.wg.Go(func() { d.conn.Close() }) // it may take its time
	default:
		c.letGo()
		c.loop.link = newLink(d.attempt, d.conn)
		c.step(engine.Dialled{Attempt: d.attempt, Token: d.token, Datagrams: transport.OverUDP(d.conn)})
	}
}
