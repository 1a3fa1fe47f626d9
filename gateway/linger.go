package gateway

import (
	"context"
	"time"

	"github.com/pim-im/pim/wire"
)

// A connection that is closed while bytes of the client's lie unread is reset, and the
// reset overtakes the last frame, or throws it away in the client's own kernel. So a
// client that did something wrong is heard out after the last word: what it still sends
// is dropped, up to a bound of bytes and of time, and only the way to it is closed.

const (
	lingerBytes = 16 << 20
	lingerTime  = 5 * time.Second
)

// dismiss ends the connection with a last word that the client is to read. Only the
// reading goroutine may call it.
func (c *conn) dismiss(code wire.Code, text string) {
	c.mu.Lock()
	c.lingering = true
	c.mu.Unlock()
	c.shut(code, text)
	c.linger()
	c.abort()
}

// linger drops what comes until the client closes, a bound is reached, or the gateway
// closes; and then waits until the last word is written, or the janitor has had enough.
func (c *conn) linger() {
	defer context.AfterFunc(c.gw.ctx, c.abort)()
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
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
	for !c.said && !c.closed {
		c.await()
	}
}

// closeWrite tells the client that nothing follows, after the last word; where that is
// not possible the connection is closed.
func (c *conn) closeWrite() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		c.abort()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = true
	c.tell()
}
