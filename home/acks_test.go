package home

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/route"
	"github.com/pim-im/pim/store/storetest"
)

// The acknowledgement of a message is at the gateway's connection before later entries of its conversation are, whichever
// nodes the gateway, the writer and the home are, and however long each way between two of them is.

// office is nodes with all roles, over one store, and devices that send. In a bubble of synctest.
type office struct {
	network *bustest.Network
	desks   []*desk

	mu     sync.Mutex // guards the fields below, and desk.seen
	wrong  []string
	acked  int
	pushed int // entries
}

// desk is a node. It is the gateway's side of its Home and of its Router: what reaches it is what would be written to the
// connections, in this order.
type desk struct {
	office  *office
	bus     bus.Bus
	home    *Home
	router  *route.Router
	writers *conv.Writers
	seen    map[pim.UserID]pim.Seq // the last seq that each device was pushed
}

// letter is a message that a device waits for. It is the Origin of its request.
type letter struct {
	user pim.UserID
	done bool
}

var staff = []pim.UserID{"alice", "bob", "carol", "dave"}

// ackVariant is how the nodes of an office are broken.
type ackVariant struct {
	deaf  bool // homes tell nobody of the entries of this node's devices
	hasty bool // writers publish before they answer
}

func openOffice(t *testing.T, rng *rand.Rand, nodes int, v ackVariant) *office {
	t.Helper()
	o := &office{network: bustest.NewNetwork()}
	st := storetest.NewMemory()
	for i := range nodes {
		d := &desk{office: o, bus: o.network.Join(bus.Node{Name: fmt.Sprint("n", i)}), seen: make(map[pim.UserID]pim.Seq)}
		pushed := func(c pim.ConversationID, e []conv.Encoded) { d.router.Pushed(c, e) }
		if v.deaf {
			pushed = nil
		}
		d.home = New(Options{Bus: d.bus, Sessions: d, Pushed: pushed, Logger: slog.New(slog.DiscardHandler)})
		d.router = route.New(route.Options{Bus: d.bus, Gateway: d, Home: d.home, Writers: func(outlet conv.Outlet) route.Writer {
			if v.hasty {
				outlet = hasty{outlet}
			}
			d.writers = conv.New(st, conv.Options{Outlet: outlet, Shards: 1, Logger: slog.New(slog.DiscardHandler)})
			return d.writers
		}})
		h := new(bus.Handler)
		d.router.Handle(h)
		d.home.Handle(h)
		if err := d.bus.Start(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		o.desks = append(o.desks, d)
	}
	time.Sleep(5 * time.Second) // all see all
	for _, a := range o.desks {
		for _, b := range o.desks {
			o.network.Slow(a.bus.Self(), b.bus.Self(), time.Duration(rng.IntN(300))*time.Millisecond)
		}
	}
	return o
}

func (o *office) close() {
	for _, d := range o.desks {
		d.writers.Close()
		d.router.Close()
	}
	for _, d := range o.desks {
		d.home.Close()
		d.bus.Close()
	}
}

// hasty is an Outlet that hands out the pushes first.
type hasty struct{ conv.Outlet }

func (h hasty) Deliver(answers []conv.Answer, pushes []conv.Published) {
	h.Outlet.Deliver(nil, pushes)
	time.Sleep(time.Millisecond) // and is not even quick about the answers
	h.Outlet.Deliver(answers, nil)
}

// Deliver is what the connections of the node are written.
func (d *desk) Deliver(answers []conv.Answer, pushes []conv.Published) {
	o := d.office
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range answers {
		l := a.Request.Origin.(*letter)
		switch {
		case a.Err != nil:
			o.wrongf("a message of %s is refused: %v", l.user, a.Err)
		case l.done:
			o.wrongf("seq %d of %s is acknowledged twice", a.Seq, l.user)
		case d.seen[l.user] > a.Seq:
			o.wrongf("%s is pushed seq %d before the acknowledgement of seq %d", l.user, d.seen[l.user], a.Seq)
		case a.Server == 0 || a.Anchor == 0 || a.Count == 0 && a.Request.Kind == pim.EntryMessage:
			o.wrongf("the acknowledgement of seq %d lacks something: %+v", a.Seq, a)
		}
		l.done = true
		o.acked++
	}
	for i := range pushes {
		for _, u := range pushes[i].Members {
			for _, e := range pushes[i].Entries {
				if e.Sender != u { // a device's own entries are not pushed to it
					d.seen[u] = max(d.seen[u], e.Seq)
					o.pushed++
				}
			}
		}
	}
}

func (o *office) wrongf(format string, args ...any) {
	if len(o.wrong) < 5 {
		o.wrong = append(o.wrong, fmt.Sprintf(format, args...))
	}
}

func (d *desk) Behind([]pim.UserID) int { return 0 }
func (d *desk) Hint(gateway.Hint)       {}
func (d *desk) DropTyping(int)          {}
func (d *desk) Replace(context.Context, pim.UserID, pim.DeviceID, uint64) bool {
	return false
}

// talk has everybody send into one group, from any node, all at once.
func (o *office) talk(t *testing.T, rng *rand.Rand, messages int) {
	at := make(map[pim.UserID]*desk)
	for i, u := range staff {
		at[u] = o.desks[rng.IntN(len(o.desks))]
		if err := at[u].home.Join(t.Context(), gateway.Connection{User: u, Device: "phone", ID: uint64(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	send := func(u pim.UserID, r conv.Request) pim.ClientMessageID {
		r.Sender, r.Device, r.Origin = u, "phone", &letter{user: u}
		r.ClientID, r.Local, r.Attempt, r.Came = pim.NewClientMessageID(time.Now()), pim.MillisOf(time.Now()), 1, time.Now()
		at[u].router.Submit([]*conv.Request{&r})
		return r.ClientID
	}
	group := pim.NewGroup(staff[0], send(staff[0], conv.Request{Kind: pim.EntryCreate, Members: slices.Clone(staff[1:])}))
	time.Sleep(5 * time.Second)
	for i := range messages {
		send(staff[rng.IntN(len(staff))], conv.Request{Conversation: group, Kind: pim.EntryMessage, Payload: fmt.Append(nil, i)})
		time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.acked != 1+messages {
		o.wrongf("%d of %d messages are acknowledged", o.acked-1, messages)
	}
	if o.pushed == 0 {
		o.wrongf("nothing was pushed")
	}
}

// playAcks plays a schedule, and returns what was wrong.
func playAcks(t *testing.T, seed uint64, nodes int, v ackVariant) (wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, uint64(nodes)))
		o := openOffice(t, rng, nodes, v)
		defer o.close()
		o.talk(t, rng, 60)
		wrong = o.wrong
	})
	return wrong
}

func TestAnAcknowledgementComesBeforeLaterPushes(t *testing.T) {
	first := seeds.First(t)
	for seed := first; seed < first+20; seed++ {
		for nodes := 2; nodes <= 4; nodes++ {
			for _, wrong := range playAcks(t, seed, nodes, ackVariant{}) {
				t.Errorf("seed %d, %d nodes: %s", seed, nodes, wrong)
			}
		}
	}
}

// The judge finds nodes whose writers publish before they answer, over two nodes, and nodes that do not heed what homes bring
// over a shorter way, in one of five schedules over four.
func TestTheJudgeOfAcknowledgements(t *testing.T) {
	for name, v := range map[string]struct {
		nodes int
		ackVariant
	}{
		"writers publish first":              {2, ackVariant{hasty: true}},
		"nobody heeds the entry of a device": {4, ackVariant{deaf: true}},
	} {
		found := false
		for seed := uint64(1); seed <= 300 && !found; seed++ {
			found = len(playAcks(t, seed, v.nodes, v.ackVariant)) > 0
		}
		if !found {
			t.Errorf("%s: nothing was found in 300 schedules", name)
		}
	}
}
