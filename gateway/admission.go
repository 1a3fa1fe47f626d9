package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/pim-im/pim/limit"
)

// Who is let in is asked where it costs least. A TCP connection, and one to an HTTP server
// with TLS (Screen), is asked about before TLS and closed without a word. An upgrade is answered
// with 503 and Retry-After. A login is answered with PIMError and PIMGoAway, which say when to
// come back.

// admit counts one more connection, which gone or the caller takes back, unless v refuses it.
// It does not ask for rates, see enter.
func (g *Gateway) admit() (v limit.Verdict) {
	g.mu.Lock()
	closing := g.closing
	g.mu.Unlock()
	if closing {
		return g.gate.Later(limit.Stopping)
	}
	if g.starting.Load() {
		return g.gate.Later(limit.Starting)
	}
	if g.memory.above.Load() {
		return g.gate.Later(limit.Memory)
	}
	if n := g.open.Add(1); n > int64(g.Limits.Connections) {
		g.open.Add(-1)
		return g.gate.Later(limit.Connections)
	}
	return v
}

// admitTCP is admit for a TCP connection, for which it asks Full as well. For a WebSocket
// the HTTP server has looked at the file descriptors when it accepted the connection.
func (g *Gateway) admitTCP() limit.Verdict {
	if v := g.admit(); v.Refused() {
		return v
	}
	if g.Full != nil && g.Full() {
		g.open.Add(-1)
		return g.gate.Later(limit.Files)
	}
	return limit.Verdict{}
}

// enter asks whether the rates allow one more connection from an address, the zero Addr if
// it is not known, and counts it if so.
func (g *Gateway) enter(from netip.Addr) limit.Verdict {
	v := g.gate.Connection(g.Mono(), from)
	if v.Reason == limit.Address || v.Reason == limit.Network {
		g.tellOfProxies(from)
	}
	return v
}

// tellEvery is how often the log says that an address comes too fast.
const tellEvery = time.Minute

// tellOfProxies says now and then that an address comes too fast. Most likely that is a flood,
// but it may be a proxy which nobody has named, or a NAT. What a NAT passes on is the clients'
// own word, so it must not be named as a proxy.
func (g *Gateway) tellOfProxies(from netip.Addr) {
	now, told := g.elapsed(), g.told.Load()
	if told != 0 && now-told < tellEvery.Milliseconds() || !g.told.CompareAndSwap(told, now) {
		return
	}
	g.Logger.Warn("too many connections come from an address or its network, and some are refused; if it is a proxy that names its clients, name it in trusted-proxies; if it is a NAT, do not, but raise address-rate and network-rate", "remote", from)
}

// enterProxied is enter for a TCP connection from a proxy, whose PROXY header it awaits.
func (g *Gateway) enterProxied(nc proxiedConn) limit.Verdict {
	bound := context.AfterFunc(g.greeting, func() { nc.Close() })
	defer bound()
	if h := nc.ProxyHeader(); h != nil && h.Command.IsLocal() {
		return g.enter(health)
	}
	return g.enter(g.Proxies.source(nc.RemoteAddr().String()))
}

// turnAway counts a connection that is refused before TLS, and closes it. Of one that comes too fast
// the kernel keeps nothing: a flood would leave tens of thousands that wait for the last words of
// their clients. The reset may reach the client before it has noticed that it is connected.
func (g *Gateway) turnAway(nc net.Conn, v limit.Verdict) {
	g.Metrics.refused(v)
	if v.Reason == limit.Accept || v.Reason == limit.Address || v.Reason == limit.Network {
		if tcp, ok := socket(nc).(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
	nc.Close()
}

// answerRefused answers an upgrade that is refused.
func (g *Gateway) answerRefused(w http.ResponseWriter, v limit.Verdict) {
	g.Metrics.refused(v)
	w.Header().Set("Retry-After", strconv.FormatInt(int64((v.After+time.Second-1)/time.Second), 10))
	http.Error(w, v.Err().Error(), http.StatusServiceUnavailable)
}

// Screen returns l for an HTTP server with TLS: what the rates refuse is closed before TLS.
// Connections of trusted proxies which name no client bring requests of many clients; there
// ServeHTTP asks at each upgrade, as it does where there is no TLS.
func (g *Gateway) Screen(l net.Listener) net.Listener { return screen{l, g} }

type screen struct {
	net.Listener
	gw *Gateway
}

// Accept implements net.Listener.
func (s screen) Accept() (net.Conn, error) {
	for {
		nc, err := s.Listener.Accept()
		if err != nil {
			return nc, err
		}
		if p, ok := nc.(proxiedConn); ok {
			return &screened{proxiedConn: p, gw: s.gw}, nil
		}
		if v := s.gw.screen(nc); v.Refused() {
			s.gw.turnAway(nc, v)
			continue
		}
		return nc, nil
	}
}

// screen asks for the rates of a connection on which TLS comes next.
func (g *Gateway) screen(nc net.Conn) limit.Verdict {
	if from := g.Proxies.source(nc.RemoteAddr().String()); from.IsValid() {
		return g.enter(from)
	}
	return limit.Verdict{}
}

// screened is a connection from a proxy whose PROXY header has not been read yet. Only the
// goroutine that serves the connection may wait for that.
type screened struct {
	proxiedConn
	gw    *Gateway
	asked bool // owned by the goroutine that reads
}

var errTurnedAway = errors.New("turned away")

// Read asks before it hands out the first bytes, with which the TLS handshake begins.
func (c *screened) Read(b []byte) (int, error) {
	if !c.asked {
		c.asked = true
		if v := c.gw.screen(c.proxiedConn); v.Refused() {
			c.gw.turnAway(c.proxiedConn, v)
			return 0, errTurnedAway
		}
	}
	return c.proxiedConn.Read(b)
}

// enterUpgrade asks for the rates of an upgrade, unless Screen has done so.
func (g *Gateway) enterUpgrade(r *http.Request) limit.Verdict {
	if r.TLS != nil && g.Proxies.source(r.RemoteAddr).IsValid() {
		return limit.Verdict{}
	}
	return g.enter(g.Proxies.SourceOf(r))
}

// withTLS returns nc with TLS around it if there is a configuration.
func withTLS(nc net.Conn, conf *tls.Config) net.Conn {
	if conf == nil {
		return nc
	}
	return tls.Server(nc, conf)
}
