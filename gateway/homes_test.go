package gateway

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// scriptedHomes are Homes that answer as a test says, and note what they are told.
type scriptedHomes struct {
	mu       sync.Mutex
	join     error
	replaced bool // Stays returns false
	joined   []Connection
	left     []Connection
	looks    []string // "+" or "-", and the subject
	changed  []pim.ConversationID
	typing   []string // who and where
}

func (h *scriptedHomes) Look(id pim.ConversationID, looks bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sign := "-"
	if looks {
		sign = "+"
	}
	h.looks = append(h.looks, sign+string(id))
}

func (h *scriptedHomes) Changed(id pim.ConversationID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = append(h.changed, id)
}

func (h *scriptedHomes) Types(user pim.UserID, id pim.ConversationID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.typing = append(h.typing, string(user)+" "+string(id))
}

func (h *scriptedHomes) Join(_ context.Context, c Connection) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined = append(h.joined, c)
	return h.join
}

func (h *scriptedHomes) Stays(Connection) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.replaced
}

func (h *scriptedHomes) Leave(c Connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = append(h.left, c)
}

// settled notes whose acknowledgements are to be stored.
type settled struct {
	*lab
	mu      sync.Mutex
	devices []pim.DeviceID
}

func (s *settled) Settle(_ context.Context, _ pim.UserID, device pim.DeviceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = append(s.devices, device)
}

// withHomes returns a lab whose gateway has homes.
func withHomes(t *testing.T) (*lab, *scriptedHomes, *settled) {
	homes, acks := new(scriptedHomes), new(settled)
	x := newLabWith(t, nil, func(x *lab, o *Options) {
		acks.lab = x
		o.Homes, o.Acks = homes, acks
	})
	return x, homes, acks
}

func TestHomesHearOfConnections(t *testing.T) {
	x, homes, _ := withHomes(t)
	p := x.connect(false, "alice", "phone")
	q := x.connect(false, "alice", "laptop")
	p.nc.Close()
	q.nc.Close()
	x.eventually("both are told to have gone", func() bool {
		homes.mu.Lock()
		defer homes.mu.Unlock()
		return len(homes.left) == 2
	})
	homes.mu.Lock()
	defer homes.mu.Unlock()
	if len(homes.joined) != 2 || homes.joined[0].ID >= homes.joined[1].ID {
		t.Errorf("joined %+v", homes.joined)
	}
	for _, c := range homes.joined {
		if !slices.ContainsFunc(homes.left, func(l Connection) bool { return l.ID == c.ID && l.Device == c.Device && l.User == "alice" }) {
			t.Errorf("%+v joined, and %+v left", c, homes.left)
		}
	}
}

func TestHomesRefuseConnections(t *testing.T) {
	x, homes, _ := withHomes(t)
	homes.join = pim.Errorf(pim.KindOverloaded, "user alice has 10 connections")
	p := x.dial(false)
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
	if e := expect[*wirepb.PIMError](p); e.Text != "user alice has 10 connections" {
		t.Errorf("refused with %v", e)
	}
	p.closedWith(wire.CodeOverloaded)

	homes.mu.Lock()
	homes.join = ErrReplaced
	homes.mu.Unlock()
	p = x.dial(false)
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
	p.closedWith(wire.CodeReplaced)
	x.eventually("both have gone", func() bool { return x.gw.Open() == 0 })
	homes.mu.Lock()
	defer homes.mu.Unlock()
	if len(homes.left) != 2 {
		t.Errorf("left: %v", homes.left)
	}
}

// A connection that another node replaces during its handshake ends with it.
func TestReplacedDuringTheHandshake(t *testing.T) {
	x, homes, _ := withHomes(t)
	homes.replaced = true
	p := x.connect(false, "alice", "phone")
	p.closedWith(wire.CodeReplaced)
	if conns := x.gw.Sessions.of("alice"); len(conns) != 0 {
		t.Errorf("%d connections get pushes", len(conns))
	}
}

// When Replace returns, the acknowledgements of the device are stored, and nothing that it has sent
// over the replaced connection reaches a writer any more.
func TestReplaceByAnotherNode(t *testing.T) {
	x, homes, acks := withHomes(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	x.mu.Lock()
	x.submit = func([]*conv.Request) {
		close(entered)
		<-leave
	}
	x.mu.Unlock()
	p, other := x.connect(false, "alice", "phone"), x.connect(false, "alice", "laptop")
	p.send(sendReq(1, "under way"))
	<-entered
	acks.mu.Lock()
	acks.devices = nil
	acks.mu.Unlock()
	homes.mu.Lock()
	id := homes.joined[0].ID
	homes.mu.Unlock()
	done := make(chan bool)
	go func() { done <- x.gw.Sessions.Replace(t.Context(), "alice", "phone", id) }()
	p.closedWith(wire.CodeReplaced)
	select {
	case <-done:
		t.Error("Replace returned while a send was on its way to a writer")
	default:
	}
	close(leave)
	if !<-done {
		t.Error("Replace has not found the connection")
	}
	acks.mu.Lock()
	if !slices.Equal(acks.devices, []pim.DeviceID{"phone"}) {
		t.Errorf("settled: %v", acks.devices)
	}
	acks.mu.Unlock()
	x.push("alice", 1, 10)
	expect[*wirepb.PIMPush](other)
	if x.gw.Sessions.Replace(t.Context(), "alice", "phone", id) {
		t.Error("Replace found the connection twice")
	}
}

func TestBehindTellsEachConnectionOnce(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		phone, laptop, bob := x.connect(websocket, "alice", "phone"), x.connect(websocket, "alice", "laptop"), x.connect(websocket, "bob", "phone")
		if told := x.gw.Sessions.Behind([]pim.UserID{"alice", "nobody"}); told != 2 {
			t.Errorf("%d were told", told)
		}
		for _, p := range []*peer{phone, laptop} {
			if m := expect[*wirepb.PIMPush](p); !m.Behind {
				t.Errorf("got %v", m)
			}
		}
		x.push("alice", 1, 10)
		x.push("bob", 1, 10)
		for _, p := range []*peer{phone, laptop, bob} {
			if m := expect[*wirepb.PIMPush](p); m.Behind || len(m.Entries) != 1 {
				t.Errorf("then got %v", m)
			}
		}
	})
}
