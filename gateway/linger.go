package gateway

import (
	"context"
	"time"

	"github.com/pim-im/pim/wire"
)

// If a connection is closed while bytes from the client are unread, the kernel resets it.
// The reset overtakes the last frame, or makes the client's kernel throw that frame away.
// So after the last frame to a client that did something wrong, only the way to the client
// is closed. What the client still sends is read and dropped, up to a bound of bytes and of
// time.

const (
	lingerBytes = 16 << 20
	lingerTime  = 5 * time.Second
)

// parting is how far the end of a connection is that lingers.
type parting uint8

const (
	noParting parting = iota // it does not linger
	lingers                  // after the last frame linger reads on
	said                     // the last frame is written, and linger may end
)

// dismiss ends the connection with a PIMGoAway that reaches a client which is still
// sending. Only the reading goroutine may call it.
func (c *conn) dismiss(code wire.Code, text string) { c.dismissFor(code, text, c.gw.window(code)) }

// dismissFor is dismiss for a client that is to come back within window, if it is to come back.
func (c *conn) dismissFor(code wire.Code, text string, window time.Duration) {
	c.mu.Lock()
	c.parting = lingers
	c.mu.Unlock()
	c.shutFor(code, text, window)
	c.linger()
	c.abort()
}

// linger drops what comes until the client closes, a bound is reached, or the gateway
// closes. Then it waits until the last frame is written, or the connection is closed, as
// by the janitor.
func (c *conn) linger() {
	defer context.AfterFunc(c.gw.ctx, c.abort)()
	c.nc.SetReadDeadline(time.Now().Add(c.gw.linger))
	buf := make([]byte, 4<<10)
	for left := lingerBytes; left > 0; {
		n, err := c.nc.Read(buf)
		if err != nil {
			break
		}
		left -= n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.parting != said && !c.closed {
		c.await()
	}
}

// closeWrite closes the way to the client after the last frame, or the whole connection
// where that is not possible.
func (c *conn) closeWrite() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		c.abort()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parting = said
	c.tell()
}
