package gateway

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// short is a listener that has no file descriptor for some of its connections.
type short struct {
	net.Listener
	failures atomic.Int64
}

func (s *short) Accept() (net.Conn, error) {
	if s.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

// If a listener cannot accept for a while, the gateway asks it again.
func TestAcceptOutlivesAShortage(t *testing.T) {
	x := newLab(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &short{Listener: l}
	s.failures.Store(4)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := x.gw.ServeTCP(s, nil); err != nil {
			t.Error(err)
		}
	})
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := &peer{t: t, nc: nc}
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
	expect[*wirepb.Welcome](p)
	l.Close()
	serving.Wait()
}

// A connection for which no file descriptor is left is turned away, and is not counted.
func TestNoFileForOneMore(t *testing.T) {
	x := newLab(t, nil)
	x.gw.Full = func() bool { return true }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { x.gw.ServeTCP(l, nil) })
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if p := (&peer{t: t, nc: nc}); p.next() != nil {
		t.Error("it is served")
	}
	l.Close()
	serving.Wait()
	if n := x.gw.Open(); n != 0 {
		t.Errorf("%d are open", n)
	}
}
