package home_test

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// node is a gateway, writers and a home, over a store that all nodes share.
type node struct {
	t   *testing.T
	bus bus.Bus
	l   *pipes
}

// pipes is a listener without a network, so that a node can be in a bubble of testing/synctest.
type pipes struct {
	dialed chan net.Conn
	closed chan struct{}
}

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.dialed <- far
	return near
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialed:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// outlet hands answers to the node's own connections, and pushes to the homes.
type outlet struct {
	sessions *gateway.Sessions
	home     *home.Home
}

func (o outlet) Deliver(answers []conv.Answer, pushes []conv.Published) {
	o.sessions.Deliver(answers, nil)
	o.home.Publish(pushes)
}

// anybody takes every token for the user of that name.
type anybody struct{}

func (anybody) Verify(token string, now time.Time) (account.Claims, error) {
	return account.Claims{User: pim.UserID(token), Expires: now.Add(time.Hour)}, nil
}

// startNode starts a node.
func startNode(t *testing.T, n *bustest.Network, s store.Store, name string) *node {
	log := slog.New(slog.DiscardHandler)
	sessions := gateway.NewSessions(nil)
	b := n.Join(bus.Node{Name: name})
	h := home.New(home.Options{Bus: b, Sessions: sessions, Connections: 10, Logger: log})
	acks := inbox.NewAcks(s, log, nil)
	writers := conv.New(s, conv.Options{Outlet: outlet{sessions, h}, Members: 100, Logger: log})
	gw := gateway.New(gateway.Options{
		Writer: writers, Sessions: sessions, Reader: inbox.New(s), Acks: acks, Verifier: anybody{}, Homes: h, Logger: log,
		Limits: gateway.Limits{
			Connections: 100, User: 10, InFlight: 100, QueueBytes: 1 << 20, Members: 100,
			Handshake: time.Minute, Idle: 10 * time.Minute, Write: time.Minute,
		},
	})
	var handler bus.Handler
	h.Handle(&handler)
	if err := b.Start(t.Context(), &handler); err != nil {
		t.Fatal(err)
	}
	l := &pipes{dialed: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = gw.ServeTCP(l, nil)
	}()
	t.Cleanup(func() {
		l.Close()
		gw.Close()
		<-served
		writers.Close()
		h.Close()
		b.Close()
		acks.Close()
	})
	return &node{t: t, bus: b, l: l}
}

// device is a client's end of a connection.
type device struct {
	t       *testing.T
	conn    transport.Conn
	welcome *wirepb.Welcome
}

// connect connects a device whose acknowledgements go up to serial.
func (n *node) connect(user, name string, serial uint64) *device {
	n.t.Helper()
	d := &device{t: n.t, conn: transport.NewTCP(n.l.dial())}
	n.t.Cleanup(func() { d.conn.Close() })
	d.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: name, AckSerial: serial})
	d.welcome = next[*wirepb.Welcome](d)
	return d
}

func (d *device) send(m wire.Message) {
	d.t.Helper()
	if err := d.conn.Write([][]byte{wire.Append(nil, m)}); err != nil {
		d.t.Fatal(err)
	}
}

// next returns the next frame that is a T.
func next[T wire.Message](d *device) T {
	d.t.Helper()
	for {
		frame, err := d.conn.Read()
		if err != nil {
			d.t.Fatalf("waiting for a %T: %v", *new(T), err)
		}
		_, m, err := wire.Decode(frame)
		if err != nil {
			d.t.Fatal(err)
		}
		if m, ok := m.(T); ok {
			return m
		}
	}
}

func clientID(n byte) []byte {
	id := pim.ClientMessageID{6: 0x70, 8: 0x80, 15: n}
	return id[:]
}

// threeNodes starts three nodes and waits until they have long seen each other.
func threeNodes(t *testing.T) (nodes []*node) {
	s := storetest.NewMemory()
	t.Cleanup(func() { s.Close() })
	n := bustest.NewNetwork()
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, startNode(t, n, s, name))
	}
	time.Sleep(time.Minute)
	for _, n := range nodes {
		if seen := len(n.bus.View().Nodes); seen != 3 {
			t.Fatalf("a node sees %d nodes", seen)
		}
	}
	return nodes
}

// A message that is written at one node is pushed to devices of both users at all nodes, but for the one that sent it.
func TestPushesAcrossNodes(t *testing.T) { synctest.Test(t, pushesAcrossNodes) }

func pushesAcrossNodes(t *testing.T) {
	nodes := threeNodes(t)
	alice := nodes[0].connect("alice", "phone", 0)
	var others []*device
	for i, n := range nodes {
		others = append(others, n.connect("bob", fmt.Sprint("device", i), 0), n.connect("alice", fmt.Sprint("laptop", i), 0))
	}
	for i := range byte(20) {
		alice.send(&wirepb.PIMSendReq{
			Conversation: string(pim.Direct("alice", "bob")), ClientMessageId: clientID(i + 1), LocalMs: time.Now().UnixMilli(),
			Attempt: 1, Payload: []byte{i},
		})
		if ack := next[*wirepb.PIMSendAck](alice); ack.Seq != uint64(i)+1 {
			t.Fatalf("acknowledged: %v", ack)
		}
	}
	for _, d := range others {
		for seq := uint64(1); seq <= 20; {
			m := next[*wirepb.PIMPush](d)
			if m.Behind {
				t.Fatal("a device was told to sync")
			}
			for _, data := range m.Entries {
				if data.Seq != seq {
					t.Fatalf("got %d, want %d", data.Seq, seq)
				}
				seq++
			}
		}
	}
}

// The acknowledgements of a replaced connection are stored before the new one's Welcome, which is on another
// node: so a device whose storage was set back is noticed, and none whose storage was not.
func TestAcknowledgementsGoWithTheDevice(t *testing.T) { synctest.Test(t, acknowledgementsGo) }

func acknowledgementsGo(t *testing.T) {
	nodes := threeNodes(t)
	alice := nodes[0].connect("alice", "phone", 0)
	alice.send(&wirepb.PIMSendReq{
		Conversation: string(pim.Direct("alice", "bob")), ClientMessageId: clientID(1), LocalMs: time.Now().UnixMilli(), Attempt: 1, Payload: []byte("hi"),
	})
	next[*wirepb.PIMSendAck](alice)
	serial := uint64(1)
	bob := nodes[0].connect("bob", "phone", 0)
	for i := range 12 {
		bob.send(&wirepb.PIMPushAck{Serial: serial, Acks: []*wirepb.Ack{{Conversation: string(pim.Direct("alice", "bob")), Seq: 1}}})
		bob.send(&wirepb.PIMPing{Nonce: 1})
		next[*wirepb.PIMPong](bob) // so the acknowledgement was read
		time.Sleep(time.Second)    // which of two connections is newer, homes tell by the clock
		old := bob
		bob = nodes[(i+1)%3].connect("bob", "phone", serial)
		if bob.welcome.StorageBehind || bob.welcome.AckSerial != serial {
			t.Fatalf("acknowledged %d, and Welcome says %d, behind: %v", serial, bob.welcome.AckSerial, bob.welcome.StorageBehind)
		}
		if m := next[*wirepb.PIMGoAway](old); wire.Code(m.Code) != wire.CodeReplaced {
			t.Fatalf("the old connection got %v", m)
		}
		serial++
	}
	back := nodes[2].connect("bob", "phone", 3)
	if !back.welcome.StorageBehind {
		t.Error("a device that was set back is not noticed")
	}
}
