package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/username"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// After a failed accept the next try follows in firstPause, and after each further failure
// in twice as long, up to lastPause.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// ServeTCP accepts connections from l until l is closed. conf, if not nil, puts TLS around
// each.
func (g *Gateway) ServeTCP(l net.Listener, conf *tls.Config) error {
	for pause := firstPause; ; {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Most likely no file descriptor is left. That passes when connections close.
			g.Logger.Warn("accept failed", "err", err, "again_in", pause)
			select {
			case <-time.After(pause):
				pause = min(2*pause, lastPause)
				continue
			case <-g.ctx.Done():
				return nil
			}
		}
		pause = firstPause
		g.take(nc, conf)
	}
}

// take serves a connection that ServeTCP has accepted, or closes it. It waits for nothing.
func (g *Gateway) take(nc net.Conn, conf *tls.Config) {
	if v := g.admitTCP(); v.Refused() {
		g.turnAway(nc, v)
		return
	}
	fromProxy, proxied := nc.(proxiedConn)
	if !proxied {
		if v := g.enter(g.Proxies.source(nc.RemoteAddr().String())); v.Refused() {
			g.open.Add(-1)
			g.turnAway(nc, v)
			return
		}
	}
	ok := g.start(func() {
		if proxied {
			if v := g.enterProxied(fromProxy); v.Refused() {
				g.open.Add(-1)
				g.turnAway(nc, v)
				return
			}
		}
		g.serve(withTLS(nc, conf), "", lengths, nil)
	})
	if !ok {
		g.open.Add(-1)
		nc.Close()
	}
}

// serve does the handshake of a connection and then starts another goroutine that reads:
// the handshake has grown this one's stack, and an idle connection should not keep it.
// remote is the client's address if it is not that of nc; early is what was already read.
func (g *Gateway) serve(nc net.Conn, remote string, f framing, early []byte) {
	c := newConn(g, nc, f)
	c.in.partial = early
	g.Metrics.connections.Inc()
	g.Metrics.transports.WithLabelValues(c.transport()).Inc()
	err := c.handshake(remote)
	if err == nil && g.start(c.run) {
		return
	}
	if err != nil {
		c.refuse(err, remote)
	}
	c.gone()
}

// handshake reads Hello and queues Welcome. If it returns nil the connection is one of
// the Sessions, and pushes may follow.
func (c *conn) handshake(remote string) error {
	g := c.gw
	opened := time.Now()
	bound := context.AfterFunc(g.greeting, c.abort)
	defer bound()
	deadline := opened.Add(g.Limits.Handshake)
	c.nc.SetDeadline(deadline)
	if err := c.secure(remote); err != nil {
		return err
	}
	hello, err := c.readHello()
	if err != nil {
		return err
	}
	if hello.Version != wire.Version {
		return pim.Errorf(pim.KindUnsupported, "protocol version %d; this server speaks %d", hello.Version, wire.Version)
	}
	if err := g.shedLogin(); err != nil {
		return err
	}
	claims, err := g.Verify(hello.Token)
	if err != nil {
		return err
	}
	c.user, c.device, c.expires = claims.User, pim.DeviceID(hello.Device), lasts(claims.Expires.Add(account.Leeway))
	c.withdrawn = claims.Withdrawn
	if err := c.device.Validate(); err != nil {
		return err
	}
	c.announce(hello.HeartbeatMs)
	if claims.Device != "" && claims.Device != c.device {
		return pim.Errorf(pim.KindUnauthorized, "the token is for device %q only", string(claims.Device))
	}
	if g.Lease != nil {
		if err := g.Lease(hello.Lease, c.user); err != nil {
			return err
		}
	}
	if v := g.gate.Login(g.Mono(), c.user, c.device); v.Refused() {
		g.Metrics.refused(v)
		return v.Err()
	}
	ctx, cancel := context.WithDeadline(g.ctx, deadline)
	defer cancel()
	acts, err := c.admitted(ctx, &claims) // before another connection of the device gives way
	if err != nil {
		return err
	}
	if g.Homes != nil {
		if err := g.Homes.Join(ctx, c.connection(time.Since(opened))); err != nil {
			return err
		}
	}
	g.Acks.Settle(ctx, c.user, c.device)
	serial, err := g.Reader.Serial(ctx, c.user, c.device)
	if err != nil {
		return err
	}
	if err := c.heedNames(ctx, serial); err != nil {
		return err
	}
	c.nc.SetDeadline(time.Time{})
	if !bound() {
		return g.greeting.Err()
	}
	c.mu.Lock() // so that no push goes before Welcome
	replaced, first, ok := g.Sessions.add(c, g.Limits.User)
	if !ok {
		c.mu.Unlock()
		v := g.gate.Later(limit.UserConnections)
		g.Metrics.refused(v)
		return v.Err()
	}
	e := enqueuer{c, commands}
	e.frame(&wirepb.Welcome{
		Version: wire.Version, User: string(c.user), ServerMs: g.Now().UnixMilli(), Limits: g.limits(),
		StorageBehind: serial > hello.AckSerial, AckSerial: serial, Connection: c.name(),
		ReconnectWindowMs: uint32(g.Limits.Reconnect / time.Millisecond), Store: g.Store,
	})
	claimed := e.end()
	c.join()
	g.Sessions.identify(c, access.HashOf(claims.ID))
	g.Access.Note(c.user, c.device, pim.MillisOf(g.Now()))
	if first {
		g.presence(c.user)
	}
	if replaced != nil {
		replaced.shut(wire.CodeReplaced, ErrReplaced.Error())
		// After Welcome the client sends again what was not answered. If a writer took such
		// a send from the old connection after that, its outcome could contradict the answer
		// that the new connection gets.
		replaced.awaitSubmit()
	}
	if g.Homes != nil && !g.Homes.Stays(c.connection(0)) {
		g.Sessions.release(c.user, c.id)
		c.shut(wire.CodeReplaced, ErrReplaced.Error())
	}
	c.unrevoked(ctx, acts)
	if claimed {
		c.startSender()
	}
	if g.greeting.Err() != nil { // GoAway may have walked the Sessions before c was there
		c.goAway()
	}
	c.log().Debug("connected", "agent", wire.Cut(hello.Agent, 128), "remote", c.from(remote))
	return nil
}

// Verify checks an access token at the time Now. While the node doubts its clock, Now goes on from the
// time that was relied on last. A token that fails then only because of its times is not called
// unauthorized: the error has the kind of the doubt, and the client comes again. Any other
// fault of a token, first of all its signature, is refused as ever.
func (g *Gateway) Verify(token string) (account.Claims, error) {
	doubt := g.Doubt() // before Now: if the doubt is over, Now is right
	claims, err := g.Verifier.Verify(token, g.Now())
	var why *pim.Error
	if account.ByTime(err) && errors.As(doubt, &why) {
		return claims, &pim.Error{
			Kind: why.Kind, RetryAfter: why.RetryAfter,
			Text: "tokens cannot be judged now: " + why.Text, Err: err,
		}
	}
	return claims, err
}

// heedNames refuses a new user or a new device whose ID package username does not allow.
// Users and devices that are known already keep such IDs. serial is the device's, as
// Reader.Serial returns it.
func (c *conn) heedNames(ctx context.Context, serial uint64) error {
	if err := username.Check("user ID", string(c.user)); err != nil {
		known, readErr := c.gw.Reader.Known(ctx, c.user)
		if readErr != nil {
			return readErr
		}
		if !known {
			return &pim.Error{Kind: pim.KindUnauthorized, Text: "the token's sub: " + err.(*pim.Error).Text}
		}
	}
	if serial != 0 {
		return nil
	}
	return username.Check("device ID", string(c.device))
}

// limits returns what Welcome tells of the protocol's limits and of g.Limits.
func (g *Gateway) limits() *wirepb.Limits {
	return &wirepb.Limits{
		FrameBytes: pim.MaxFrame, PayloadBytes: pim.MaxPayload, PageEntries: pim.MaxPageEntries, PageBytes: pim.MaxPageBytes,
		InFlight: uint32(g.Limits.InFlight), GroupMembers: uint32(g.Limits.Members),
		IdleMs: uint32(g.Limits.Idle / time.Millisecond), HeartbeatMs: uint32(g.Limits.Heartbeat / time.Millisecond),
	}
}

var errNotHello = pim.Errorf(pim.KindInvalid, "the first frame must be Hello")

// readHello reads the first frame. What came after it stays in c.in.partial, for run. After an
// error c holds no buffer: the connection may linger for seconds, and there may be very many.
func (c *conn) readHello() (hello *wirepb.Hello, err error) {
	defer func() {
		c.release()
		if err != nil {
			c.in.partial = nil
		}
	}()
	errDone := errors.New("one frame is enough")
	first := func(frame []byte) error {
		if wire.Type(frame[0]) != wire.TypeHello {
			return errNotHello
		}
		_, m, err := wire.Decode(frame)
		if err != nil {
			return err
		}
		hello = m.(*wirepb.Hello)
		return errDone
	}
	buf := c.in.partial
	for {
		if len(buf) > 0 {
			rest := buf
			if c.speaksTLS(buf) {
				c.gw.Metrics.tls.WithLabelValues(tlsSpoken).Inc()
				return nil, errSpeaksTLS
			}
			for hello == nil {
				frame, tail, need, err := c.cut(rest)
				if err != nil {
					return nil, err
				}
				rest = tail
				if need > 0 {
					c.keep(rest, need)
					break
				}
				if frame == nil {
					continue
				}
				if err := first(frame); err != nil && err != errDone {
					return nil, err
				}
			}
			if hello != nil {
				c.in.partial = bytes.Clone(rest) // for run
				return hello, nil
			}
			c.release()
		}
		if buf, err = c.read(); err != nil {
			return nil, err
		}
	}
}

// from returns the client's address: remote, if a proxy told it, or else that of nc.
func (c *conn) from(remote string) string {
	if remote == "" {
		remote = c.nc.RemoteAddr().String()
	}
	return remote
}

// refuse tells the client why the handshake failed. It says nothing if err is neither a
// *pim.Error nor a timeout: then the client is gone, or the gateway is closing.
func (c *conn) refuse(err error, remote string) {
	var e *pim.Error
	code := wire.CodeHandshake
	switch {
	case errors.Is(err, ErrReplaced):
		c.nc.SetDeadline(time.Now().Add(c.gw.Limits.Write))
		c.dismiss(wire.CodeReplaced, err.Error())
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		e = pim.Errorf(pim.KindTimeout, "no Hello within %v", c.gw.Limits.Handshake)
	case !errors.As(err, &e):
		return // gone
	case e.Kind == pim.KindUnauthorized || e.Kind == pim.KindRevoked:
		code = wire.CodeUnauthorized
	case e.Kind == pim.KindUnsupported:
		code = wire.CodeUnsupported
	case e.Kind == pim.KindInvalid || e.Kind == pim.KindTooLarge:
		code = codeOf(err)
	case e.Kind == pim.KindOverloaded:
		code = wire.CodeOverloaded
	default:
		code = wire.CodeUnavailable
	}
	c.log().Debug("handshake refused", "err", err, "remote", c.from(remote))
	c.nc.SetDeadline(time.Now().Add(c.gw.Limits.Write))
	m := wire.ErrorFrame(withoutCause(e))
	if code == wire.CodeOverloaded && m.RetryAfterMs == 0 {
		m.RetryAfterMs = uint32(c.gw.gate.Later(limit.None).After / time.Millisecond)
	}
	c.reply(m)
	// Clients come back at a random time within the window, and not before what m names. The mean
	// of those that go by the window alone is that time.
	c.dismissFor(code, m.Text, max(c.gw.window(code), 2*time.Duration(m.RetryAfterMs)*time.Millisecond))
}
