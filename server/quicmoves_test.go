package server_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// nat is a middlebox between one client and a server, which forgets at times by which port the client reaches the server.
type nat struct {
	t       *testing.T
	inside  *net.UDPConn
	to      *net.UDPAddr
	serving sync.WaitGroup

	mu      sync.Mutex
	client  net.Addr
	outside *net.UDPConn
}

func newNAT(t *testing.T, to string) *nat {
	t.Helper()
	x := &nat{t: t}
	var err error
	if x.to, err = net.ResolveUDPAddr("udp", to); err != nil {
		t.Fatal(err)
	}
	if x.inside, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	x.rebind()
	x.serving.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := x.inside.ReadFrom(buf)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.client = from
			x.outside.WriteTo(buf[:n], x.to)
			x.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		x.inside.Close()
		x.outside.Close()
		x.serving.Wait()
	})
	return x
}

// rebind takes another port towards the server. What comes to the one before is lost.
func (x *nat) rebind() {
	x.t.Helper()
	outside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		x.t.Fatal(err)
	}
	x.mu.Lock()
	before := x.outside
	x.outside = outside
	x.mu.Unlock()
	if before != nil {
		before.Close()
	}
	x.serving.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := outside.Read(buf)
			if err != nil {
				return
			}
			x.mu.Lock()
			client := x.client
			x.mu.Unlock()
			x.inside.WriteTo(buf[:n], client)
		}
	})
}

// A QUIC connection goes on when a NAT has given it another port: what the client sends next is answered, and pushes find their
// way again, without a new connection and without anybody saying so.
func TestQUICOutlivesANAT(t *testing.T) {
	n := startSecured(t, nil, server.Options{})
	nat := newNAT(t, n.QUICAddr())
	d, err := transport.NewDialer("quic://"+nat.inside.LocalAddr().String(), &tls.Config{RootCAs: n.roots}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token, err := n.keys.Issue("bob", time.Hour, n.wall())
	if err != nil {
		t.Fatal(err)
	}
	say := func(m wire.Message) {
		t.Helper()
		if err := c.Write([][]byte{wire.Append(nil, m)}); err != nil {
			t.Fatal(err)
		}
	}
	hear := func() wire.Message {
		t.Helper()
		m, err := nextFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	say(&wirepb.Hello{Version: wire.Version, Token: token, Device: "phone"})
	if m, ok := hear().(*wirepb.Welcome); !ok {
		t.Fatalf("%v", m)
	}
	alice := n.connect("alice", "1", "tls")
	for range 5 {
		nat.rebind()
		alice.says(pim.Direct("alice", "bob"), "while nobody knows the way")
		say(&wirepb.PIMPing{Nonce: 7})
		var ponged, pushed bool
		for !ponged || !pushed {
			switch m := hear().(type) {
			case *wirepb.PIMPong:
				ponged = true
			case *wirepb.PIMPush:
				pushed = true
			default:
				t.Fatalf("%T %v", m, m)
			}
		}
	}
}
