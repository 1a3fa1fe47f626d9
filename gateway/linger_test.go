package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// serveDirectly returns a peer on a connection that skips the upgrade.
func (x *lab) serveDirectly(websocket bool, config *tls.Config) *peer {
	x.t.Helper()
	near, far := tcpPair(x.t)
	if v := x.gw.admit(); v.Refused() {
		x.t.Fatal(v.Reason)
	}
	var served, client net.Conn = far, near
	if config != nil {
		served, client = tls.Server(far, config), tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	}
	if !x.gw.start(func() { x.gw.serve(served, "", framingOf(websocket), nil) }) {
		x.t.Fatal("closed")
	}
	x.t.Cleanup(func() { near.Close() })
	client.SetDeadline(time.Now().Add(5 * time.Minute))
	return &peer{t: x.t, nc: client, websocket: websocket}
}

// header returns how a frame of n bytes begins.
func (p *peer) header(n int) []byte {
	if !p.websocket {
		return lengths.appendHeader(nil, n)
	}
	b := webSocket.appendHeader(nil, n)
	b[1] |= 0x80
	return append(b, 0, 0, 0, 0)
}

// newLingeringLab returns a lab whose gateway lingers, and waits for clients, however slow this machine is.
func newLingeringLab(t *testing.T) *lab {
	x := newLab(t, func(l *Limits) { l.Handshake, l.Idle, l.Write = time.Hour, time.Hour, time.Hour })
	x.gw.linger = time.Hour
	return x
}

// A client sends far too much, or something wrong and much after it, before it reads. It
// still reads why it was sent away: no reset overtakes the last frame.
func TestTheLastWordArrives(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	hello := func(p *peer, token string) []byte {
		return p.frame(wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone"}))
	}
	much := bytes.Repeat([]byte("x"), 8<<20)
	for name, c := range map[string]struct {
		send func(p *peer) []byte
		code wire.Code
	}{
		"a frame far above the limit":   {func(p *peer) []byte { return append(append(hello(p, "alice"), p.header(len(much))...), much...) }, wire.CodeTooLarge},
		"a first frame above its limit": {func(p *peer) []byte { return append(p.header(1<<20), much[:1<<20]...) }, wire.CodeTooLarge},
		"a frame that announces more than it sends": {func(p *peer) []byte {
			return append(append(hello(p, "alice"), p.header(1<<31-1)...), much...)
		}, wire.CodeTooLarge},
		"nonsense": {func(p *peer) []byte {
			return append(append(hello(p, "alice"), p.frame([]byte{byte(wire.TypeWelcome), 1, 2})...), much...)
		}, wire.CodeProtocol},
		"a bad token, and much behind it": {func(p *peer) []byte { return append(hello(p, "bad"), much...) }, wire.CodeUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, websocket bool) {
				for _, config := range []*tls.Config{nil, secure.TLS} {
					x := newLingeringLab(t)
					p := x.serveDirectly(websocket, config)
					p.write(c.send(p))
					p.closedWith(c.code)
					p.nc.Close()
					x.eventually("the connection is gone", func() bool { return x.gw.Open() == 0 })
				}
			})
		})
	}
}

// The close frame of the WebSocket layer comes after PIMGoAway, with the same code.
func TestCloseFrameArrives(t *testing.T) {
	x := newLingeringLab(t)
	p := x.serveDirectly(true, nil)
	p.write(append(p.header(8<<20), make([]byte, 8<<20)...))
	all, err := io.ReadAll(p.nc)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndexByte(all, 0x80|opClose)
	h, err := ws.ReadHeader(bytes.NewReader(all[max(at, 0):]))
	if err != nil || h.OpCode != ws.OpClose || !bytes.HasPrefix(all[at+2:], []byte{byte(wire.CodeTooLarge >> 8), byte(wire.CodeTooLarge & 0xff)}) {
		t.Errorf("it ends with %x, %v", all, err)
	}
}

// linger ends: after lingerBytes of a client that goes on sending, after lingerTime of one
// that does nothing, and when the gateway closes.
func TestLingeringIsBounded(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		x := newLingeringLab(t)
		p := x.serveDirectly(false, nil)
		p.write(p.header(1 << 30))
		chunk, sent := make([]byte, 1<<20), 0
		for {
			n, err := p.nc.Write(chunk)
			if sent += n; err != nil {
				break
			}
			if sent > 8*lingerBytes { // far more than kernels hold
				t.Fatalf("%d bytes were taken", sent)
			}
		}
		x.eventually("the connection is gone", func() bool { return x.gw.Open() == 0 })
	})
	t.Run("time", func(t *testing.T) {
		x := newLingeringLab(t)
		x.gw.linger = 50 * time.Millisecond
		p := x.serveDirectly(false, nil)
		p.write(p.header(1 << 30))
		x.eventually("the connection is gone", func() bool { return x.gw.Open() == 0 })
	})
	t.Run("close", func(t *testing.T) {
		x := newLingeringLab(t)
		for range 10 {
			p := x.serveDirectly(true, nil)
			p.write(p.header(1 << 30))
			p.closedWith(wire.CodeTooLarge)
		}
		var closed sync.WaitGroup
		begun := time.Now()
		closed.Go(x.gw.Close)
		closed.Wait()
		if n := x.gw.Open(); n != 0 {
			t.Errorf("%d are open after %v", n, time.Since(begun))
		}
	})
}
