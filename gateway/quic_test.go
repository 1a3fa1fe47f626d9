package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"github.com/quic-go/quic-go"
)

// quicLab is a lab whose gateway takes QUIC.
type quicLab struct {
	*lab
	q      *QUIC
	config *tls.Config // of clients
}

func newQUICLab(t *testing.T, limits func(*Limits)) *quicLab {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newQUICLabOn(t, limits, packets, [32]byte{1})
}

func newQUICLabOn(t *testing.T, limits func(*Limits), packets net.PacketConn, reset [32]byte) *quicLab {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	x := &quicLab{lab: newLab(t, limits), config: web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	x.config.NextProtos, x.config.ServerName = []string{wire.QUICProtocol}, "example.com"
	var err error
	if x.q, err = x.gw.ListenQUIC(packets, web.TLS, reset); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := x.q.Serve(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		x.gw.Close()
		x.q.Close()
		serving.Wait()
	})
	return x
}

// dial makes a connection without a stream.
func (x *quicLab) dial(c *quic.Config) *quic.Conn {
	x.t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		x.t.Fatal(err)
	}
	tr := &quic.Transport{Conn: packets}
	x.t.Cleanup(func() {
		tr.Close()
		packets.Close()
	})
	conn, err := tr.Dial(x.t.Context(), x.q.Addr(), x.config, c)
	if err != nil {
		x.t.Fatal(err)
	}
	return conn
}

// connect dials and shakes hands.
func (x *quicLab) connect(user, device string, c *quic.Config) *peer {
	x.t.Helper()
	conn := x.dial(c)
	stream, err := conn.OpenStream()
	if err != nil {
		x.t.Fatal(err)
	}
	p := &peer{t: x.t, nc: &quicLine{stream, conn}}
	p.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: device})
	expect[*wirepb.Welcome](p)
	return p
}

// deaf is a socket that hears nothing, like that of a client whose address is not its own.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for err == nil {
		n, from, err = d.PacketConn.ReadFrom(b)
	}
	return n, from, err
}

// Clients with forged addresses occupy a bounded part of the node, and real ones come in beside them: they are asked to
// show their address.
func TestForgedAddressesOverQUIC(t *testing.T) {
	x := newQUICLab(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	defer dialling.Wait()
	defer cancel()
	for range mostUnproven + 16 {
		dialling.Go(func() {
			packets, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return
			}
			defer packets.Close()
			tr := &quic.Transport{Conn: deaf{packets}}
			defer tr.Close()
			if _, err := tr.Dial(ctx, x.q.Addr(), x.config, nil); err == nil {
				t.Error("a deaf client is connected")
			}
		})
	}
	x.eventually("many handshakes are under way", func() bool { return x.q.unproven.Load() == mostUnproven })
	p := x.connect("alice", "phone", nil)
	p.send(&wirepb.PIMPing{})
	expect[*wirepb.PIMPong](p)
	if n := x.q.unproven.Load(); n != mostUnproven {
		t.Errorf("%d handshakes with forged addresses", n)
	}
	if n := x.gw.Open(); n != mostUnproven+1 {
		t.Errorf("%d connections", n)
	}
	x.gw.Close()
	x.q.Close()
	x.eventually("nothing is left of them", func() bool { return x.gw.Open() == 0 && x.q.unproven.Load() == 0 })
}

// A client that opens no stream is closed, and counts no more.
func TestQUICWithoutAStream(t *testing.T) {
	x := newQUICLab(t, func(l *Limits) { l.Handshake = 200 * time.Millisecond })
	conn := x.dial(nil)
	<-conn.Context().Done()
	x.eventually("it is forgotten", func() bool { return x.gw.Open() == 0 })
}

// A client may open one stream only: others are an error of QUIC's.
func TestQUICHasOneStream(t *testing.T) {
	x := newQUICLab(t, nil)
	p := x.connect("alice", "phone", nil)
	conn := p.nc.(*quicLine).conn
	if s, err := conn.OpenStream(); err == nil {
		t.Errorf("stream %d", s.StreamID())
	}
	if s, err := conn.OpenUniStream(); err == nil {
		t.Errorf("stream %d", s.StreamID())
	}
}

// What waits for a client that takes nothing is bounded, and the client is closed in time.
func TestQUICClientThatTakesNothing(t *testing.T) {
	x := newQUICLab(t, nil)
	x.connect("alice", "phone", &quic.Config{
		InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10, InitialConnectionReceiveWindow: 4 << 10, MaxConnectionReceiveWindow: 4 << 10,
	})
	c := x.conn("alice")
	x.push("alice", 100, 8<<10)
	x.eventually("the device is behind", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.behind()
	})
	c.mu.Lock()
	if n := c.unsent(); n > 2*x.gw.Limits.QueueBytes {
		t.Errorf("%d bytes wait", n)
	}
	c.mu.Unlock()
	x.eventually("a write is stuck", func() bool { return c.writing.Load() != 0 })
	x.ahead.Add(int64(x.gw.Limits.Write + time.Second))
	x.eventually("it is closed", func() bool { return x.gw.Open() == 0 })
}

// A node that was started again tells clients of its former process that their connections are gone, when they next send
// something.
func TestQUICAfterARestart(t *testing.T) {
	x := newQUICLab(t, nil)
	p := x.connect("alice", "phone", nil)
	address := x.q.Addr().String()
	x.q.Close() // without a word, as a process that is killed
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	next := newQUICLabOn(t, nil, packets, [32]byte{1})
	if _, err := p.nc.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	var reset *quic.StatelessResetError
	if _, err := p.nc.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("the client learns %v", err)
	}
	if p := next.connect("alice", "phone", nil); p == nil {
		t.Error("no new connection")
	}
}
