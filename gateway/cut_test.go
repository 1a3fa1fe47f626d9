package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// cutScript is what a client sends, and where in it each of its sends is complete.
type cutScript struct {
	bytes []byte
	ends  []int
}

func newCutScript(websocket bool, sizes ...int) *cutScript {
	s := new(cutScript)
	add := func(frame []byte) {
		if !websocket {
			s.bytes = wire.AppendTCP(s.bytes, frame)
			return
		}
		third := len(frame) / 3
		for i, part := range [][]byte{frame[:third], frame[third : 2*third], frame[2*third:]} {
			op := ws.OpContinuation
			if i == 0 {
				op = ws.OpBinary
			} else {
				s.bytes = append(s.bytes, clientFrame(ws.OpPing, true, []byte("ping"))...)
			}
			s.bytes = append(s.bytes, clientFrame(op, i == 2, part)...)
		}
	}
	add(wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"}))
	for i, n := range sizes {
		add(wire.Append(nil, sendReq(byte(i+1), string(make([]byte, n)))))
		s.ends = append(s.ends, len(s.bytes))
	}
	return s
}

// cuts returns where to cut the script: a small one everywhere, a large one around the ends
// of what is read at a time.
func (s *cutScript) cuts() []int {
	var cuts []int
	for cut := range len(s.bytes) + 1 {
		near := func(block int) bool { return (cut+2)%block < 16 }
		if len(s.bytes) < 1000 || near(smallRead) && near(4096) || near(largePartial) || near(readSize) || cut > len(s.bytes)-2 {
			cuts = append(cuts, cut)
		}
	}
	return cuts
}

// The connection ends in the middle of the client's bytes, at every place and on every
// transport. Sends whose frame came whole are taken, and the one that was cut is not.
func TestEveryCut(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	for name, kind := range map[string]struct {
		websocket bool
		tls       *tls.Config
	}{"TCP": {}, "TLS": {false, secure.TLS}, "WebSocket": {true, nil}, "WebSocket over TLS": {true, secure.TLS}} {
		t.Run(name, func(t *testing.T) {
			x := newLab(t, func(l *Limits) { l.InFlight, l.Connections = 100, 1000 })
			taken := 0
			x.submit = func(requests []*conv.Request) {
				var answers []conv.Answer
				for _, r := range requests {
					answers = append(answers, conv.Answer{Request: r, Seq: 1, Anchor: 1})
				}
				x.mu.Lock()
				taken += len(answers)
				x.mu.Unlock()
				x.gw.Sessions.Deliver(answers, nil)
			}
			for _, s := range []*cutScript{newCutScript(kind.websocket, 1, 130, 2), newCutScript(kind.websocket, 10_000, 40_000, 60_000)} {
				for i, cut := range s.cuts() {
					if kind.tls != nil && i%7 != 0 {
						continue // handshakes take their time
					}
					x.mu.Lock()
					taken = 0
					x.mu.Unlock()
					x.sendCut(kind.websocket, kind.tls, s.bytes[:cut], cut%5)
					want := 0
					for _, end := range s.ends {
						if end <= cut {
							want++
						}
					}
					x.mu.Lock()
					got := taken
					x.mu.Unlock()
					if got != want {
						t.Fatalf("cut at %d of %d: %d sends are taken, %d are whole", cut, len(s.bytes), got, want)
					}
				}
			}
		})
	}
}

// sendCut serves a connection on which sent comes and then the end; the first early bytes of
// sent come with the upgrade. It returns when the gateway is done with the connection.
func (x *lab) sendCut(websocket bool, config *tls.Config, sent []byte, early int) {
	x.t.Helper()
	near, far := tcpPair(x.t)
	if early = min(early, len(sent)); !websocket {
		early = 0
	}
	if v := x.gw.admit(); v.Refused() {
		x.t.Fatal(v.Reason)
	}
	var served net.Conn = far
	if config != nil {
		served = tls.Server(far, config)
	}
	if !x.gw.start(func() { x.gw.serve(served, "", framingOf(websocket), append([]byte(nil), sent[:early]...)) }) {
		x.t.Fatal("closed")
	}
	var client interface {
		net.Conn
		CloseWrite() error
	} = near
	if config != nil {
		client = tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	}
	var drained sync.WaitGroup
	if config == nil {
		drained.Go(func() { io.Copy(io.Discard, client) })
	}
	if _, err := client.Write(sent[early:]); err != nil {
		x.t.Fatal(err)
	}
	if config != nil {
		drained.Go(func() { io.Copy(io.Discard, client) })
	}
	client.CloseWrite()
	drained.Wait()
	near.Close()
	x.eventually("the connection is gone", func() bool { return x.gw.Open() == 0 })
}

// tcpPair returns the two ends of a connection.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return nc.(*net.TCPConn), other.(*net.TCPConn)
}
