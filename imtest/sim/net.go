package sim

import (
	"errors"
	"time"

	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Net is what lies between a device and the server. The zero Net is perfect.
type Net struct {
	Name   string        // as the device is told
	Delay  time.Duration // one way
	Jitter time.Duration // more or less, evenly
	// Loss is the share of frames that are lost on the way at first. The transport
	// sends a lost frame again, so the frame and everything behind it come later: by
	// 1 s, 3 s, 7 s …, as with a retransmission timer that doubles.
	Loss   float64
	Rate   int           // bytes a second, each way; 0: no limit
	Refuse bool          // nobody listens
	Silent bool          // frames of the device are held back until Change
	Deaf   bool          // frames of the server are held back until Change; with Silent or Deaf no connection is made
	Portal bool          // connections are made, but with somebody who does not answer
	Forget time.Duration // after such a silence a connection's frames vanish; 0: never
}

const (
	retransmit = time.Second // the first wait of the transport
	maxStall   = 5           // doublings
)

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
)

// conn is an attempt to connect, and then its connection.
type conn struct {
	d        *Device
	attempt  uint64
	server   string              // its URL
	session  *clienttest.Session // nil: not made yet, or a portal answers in place of the server
	gone     bool                // one side has ended it; what is under way is lost
	vanishes bool                // it is half open: frames vanish, nobody is told
	lineAt   time.Duration       // when the last frame was sent
	up, down lane
}

// lane is one direction: frames arrive in the order in which they are sent. Only frames
// that were held may come after frames that were sent since Change.
type lane struct {
	left time.Duration // when the last frame had been put on the line
	last time.Duration // when that frame arrives
	held []func()      // frames that the network swallows until Change
}

// dial makes an attempt to connect.
func (d *Device) dial(to engine.Dial) {
	w := d.w
	if d.signedOut {
		d.noToken(to.Attempt)
		return
	}
	d.comesTo(to.Server)
	c := &conn{d: d, attempt: to.Attempt, server: to.Server}
	d.conns = append(d.conns, c)
	w.tell(d, "dials")
	c.handshake()
}

// handshake makes the connection, in two round trips, when there is a way to the
// server.
func (c *conn) handshake() {
	d := c.d
	if d.net.Silent || d.net.Deaf {
		d.waiting = append(d.waiting, c)
		return
	}
	took := 4*d.net.Delay + d.stall()
	c.d.w.After(took, func() {
		switch {
		case c.gone || d.engine == nil:
		case d.net.Silent || d.net.Deaf:
			d.waiting = append(d.waiting, c)
		case d.net.Refuse || d.w.down:
			c.lost(errRefused)
		case !d.net.Portal && c.refusedUpgrade():
		default:
			if !d.net.Portal {
				c.session = d.w.Server.Connect(nil)
			}
			c.lineAt = d.w.now
			d.Step(engine.Dialled{Attempt: c.attempt, Token: string(d.User)})
		}
	})
}

// stall returns how much later a frame arrives because it is lost on the way at first.
func (d *Device) stall() (late time.Duration) {
	if d.net.Loss == 0 {
		return 0
	}
	for i := 0; i < maxStall && d.w.rng.Float64() < d.net.Loss; i++ {
		late += retransmit << i
	}
	return late
}

// carry moves a frame of size bytes along a lane and then does arrive.
func (c *conn) carry(l *lane, up bool, size int, arrive func()) {
	d, w := c.d, c.d.w
	if d.net.Forget > 0 && w.now-c.lineAt > d.net.Forget {
		c.vanishes = true
	}
	c.lineAt = w.now
	if c.gone || c.vanishes {
		return
	}
	if swallows := d.net.Silent && up || d.net.Deaf && !up; swallows {
		l.held = append(l.held, func() { c.carry(l, up, size, arrive) })
		return
	}
	took := d.net.Delay + d.stall()
	if d.net.Jitter > 0 {
		took += time.Duration((2*w.rng.Float64() - 1) * float64(d.net.Jitter))
	}
	l.left = max(l.left, w.now) // a frame waits until the line is free
	if d.net.Rate > 0 {
		l.left += time.Duration(size) * time.Second / time.Duration(d.net.Rate)
	}
	l.last = max(l.last, l.left+max(took, 0))
	w.At(l.last, func() {
		if !c.gone && !c.vanishes {
			arrive()
		}
	})
}

// toServer carries a frame of the engine.
func (c *conn) toServer(m wire.Message) {
	frame := wire.Append(nil, m)
	c.carry(&c.up, true, len(frame), func() {
		if c.session == nil {
			return
		}
		_, m, err := wire.Decode(frame)
		if err != nil {
			c.d.w.Failf("an engine's frame cannot be read: %v", err)
			return
		}
		if _, ok := m.(*wirepb.Hello); ok && c.refusedLogin() {
			return
		}
		for _, answer := range c.session.Handle(m) {
			c.toDevice(answer)
		}
		c.d.w.push()
	})
}

// toDevice carries a frame of the server.
func (c *conn) toDevice(m wire.Message) {
	c.d.w.noteAnswer(m)
	frame := wire.Append(nil, m)
	c.carry(&c.down, false, len(frame), func() {
		_, m, err := wire.Decode(frame)
		if err != nil {
			c.d.w.Failf("the server's frame cannot be read: %v", err)
			return
		}
		if c.d.engine != nil {
			c.d.Step(engine.Frame{Attempt: c.attempt, Message: m})
		}
	})
}

// close ends the connection on the server's side.
func (c *conn) close() {
	c.gone = true
	if c.session != nil {
		c.session.Close()
	}
}

// lost ends the connection and tells the device.
func (c *conn) lost(err error) {
	c.lostWith(err, 0)
}

// lostWith is lost for a connection that the server has closed with a code.
func (c *conn) lostWith(err error, code wire.Code) {
	c.close()
	if c.d.engine != nil {
		c.d.Step(engine.Lost{Attempt: c.attempt, Err: err, Code: code})
	}
}

// Change puts the device on another network, or changes the one it is on. Frames that
// the old network held are sent again on the new one, as a transport would.
func (d *Device) Change(n Net) {
	d.w.tell(d, "network: %+v", n)
	d.net = n
	waiting := d.waiting
	d.waiting = nil
	for _, c := range waiting {
		if !c.gone {
			c.handshake()
		}
	}
	for _, c := range d.conns {
		for _, l := range []*lane{&c.up, &c.down} {
			held := l.held
			l.held = nil
			if len(held) > 0 {
				d.w.After(time.Duration(d.w.rng.Float64()*float64(2*retransmit)), func() {
					for _, again := range held {
						again()
					}
				})
			}
		}
	}
}

// Cut breaks the device's connections; both sides learn of it.
func (d *Device) Cut() {
	d.w.tell(d, "cut")
	for _, c := range d.take() {
		c.close()
		d.w.After(d.net.Delay, func() {
			if d.engine != nil {
				d.Step(engine.Lost{Attempt: c.attempt, Err: errReset})
			}
		})
	}
}

// Freeze makes the device's connections half open: neither side learns of it.
func (d *Device) Freeze() {
	d.w.tell(d, "half open")
	for _, c := range d.conns {
		c.vanishes = true
	}
}

// take returns the device's connections, and forgets them and the attempts.
func (d *Device) take() []*conn {
	conns := d.conns
	d.conns, d.waiting = nil, nil
	return conns
}
