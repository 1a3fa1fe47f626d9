package home

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// world is nodes, what is durable, and devices. Its devices never sync by themselves: what they have not been pushed
// or told to sync for, they do not get. All of it is in a bubble of testing/synctest.
type world struct {
	t       *testing.T
	network *bustest.Network
	broken  func(*site) // changes a node before it starts
	limit   int         // connections of a user

	mu       sync.Mutex
	logs     map[pim.ConversationID]pim.Seq
	groups   map[pim.ConversationID][]pim.UserID
	versions map[pim.ConversationID]int // of subjects, see looks_test.go
	sites    map[string]*site
	ids      uint64
}

// site is a node. It is the Sessions of its Home.
type site struct {
	w    *world
	name string
	bus  bus.Bus
	home *Home

	mu      sync.Mutex
	phones  map[pim.UserID][]*phone
	told    int // connections told to sync
	acks    map[pim.DeviceID]int
	stops   bool // it goes on draining
	apart   bool // it has written something while it and another node did not see each other
	screens screens
}

// phone is a connection of a device.
type phone struct {
	gateway.Connection
	site *site

	mu   sync.Mutex
	has  map[pim.ConversationID]pim.Seq
	over bool // it was replaced, or is gone
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, network: bustest.NewNetwork(), logs: make(map[pim.ConversationID]pim.Seq),
		groups: make(map[pim.ConversationID][]pim.UserID), sites: make(map[string]*site), broken: func(*site) {},
	}
}

// starts starts a node, which drains for Settle, as those of package server do.
func (w *world) starts(name string) *site {
	w.t.Helper()
	s := w.makes(name)
	s.joins()
	return s
}

// makes makes a node that does not know the others yet.
func (w *world) makes(name string) *site {
	s := &site{w: w, name: name, phones: make(map[pim.UserID][]*phone), acks: make(map[pim.DeviceID]int)}
	s.bus = w.network.Join(bus.Node{Name: name, Draining: true})
	s.home = New(Options{Bus: s.bus, Sessions: s, Connections: w.limit, Logger: slog.New(slog.DiscardHandler)})
	w.broken(s)
	return s
}

// joins has a node join the others.
func (s *site) joins() {
	w := s.w
	w.t.Helper()
	var h bus.Handler
	s.home.Handle(&h)
	if err := s.bus.Start(w.t.Context(), &h); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.sites[s.name] = s
	w.mu.Unlock()
	time.AfterFunc(Settle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stops {
			s.bus.Update(func(n *bus.Node) { n.Draining = false })
		}
	})
}

// start starts nodes and waits until all see each other.
func (w *world) start(names ...string) (sites []*site) {
	w.t.Helper()
	for _, name := range names {
		sites = append(sites, w.starts(name))
	}
	time.Sleep(5 * time.Second)
	for _, s := range sites {
		if n := len(s.bus.View().Nodes); n != len(w.sites) {
			w.t.Fatalf("%s sees %d nodes", s.name, n)
		}
	}
	return sites
}

// close ends all nodes.
func (w *world) close() {
	for _, s := range w.running() {
		s.end(false)
	}
}

// running returns the nodes that run, by name.
func (w *world) running() []*site {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sites []*site
	for _, s := range w.sites {
		sites = append(sites, s)
	}
	slices.SortFunc(sites, func(a, b *site) int { return slices.Compare([]string{a.name}, []string{b.name}) })
	return sites
}

// end ends a node, well or like a crash. Its connections are gone.
func (s *site) end(crash bool) {
	s.w.mu.Lock()
	delete(s.w.sites, s.name)
	s.w.mu.Unlock()
	if crash {
		s.home.mu.Lock()
		s.home.closing = true
		s.home.mu.Unlock()
		s.home.cancel()
		s.w.network.Kill(s.name)
		s.home.running.Wait()
	} else {
		for _, p := range s.all() {
			s.leaves(p)
		}
		s.home.Close()
		s.bus.Close()
	}
	for _, p := range s.all() {
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
	}
}

func (s *site) all() (all []*phone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.phones {
		all = append(all, list...)
	}
	return all
}

// opens is the beginning of a connection.
func (s *site) opens(user pim.UserID, device pim.DeviceID) *phone {
	s.w.mu.Lock()
	s.w.ids++
	id := s.w.ids
	s.w.mu.Unlock()
	return &phone{Connection: gateway.Connection{User: user, Device: device, ID: id}, site: s, has: make(map[pim.ConversationID]pim.Seq)}
}

// connects connects a device, as a handshake does.
func (s *site) connects(user pim.UserID, device pim.DeviceID) (*phone, error) {
	p := s.opens(user, device)
	return p, s.shakes(p, 0)
}

// shakes does the handshake of a connection that was opened some time ago.
func (s *site) shakes(p *phone, age time.Duration) error {
	c := p.Connection
	c.Age = age
	if err := s.home.Join(s.w.t.Context(), c); err != nil {
		s.home.Leave(p.Connection)
		return err
	}
	for _, o := range s.of(p.User) { // as Sessions.add does
		switch {
		case o.Device != p.Device:
		case o.ID > p.ID:
			s.home.Leave(p.Connection)
			return gateway.ErrReplaced
		default:
			s.leaves(o)
		}
	}
	s.mu.Lock()
	s.phones[p.User] = append(s.phones[p.User], p)
	s.mu.Unlock()
	if !s.home.Stays(p.Connection) {
		s.leaves(p)
		return gateway.ErrReplaced
	}
	p.sync()
	return nil
}

// must connects a device, which must succeed.
func (s *site) must(user pim.UserID, device pim.DeviceID) *phone {
	s.w.t.Helper()
	p, err := s.connects(user, device)
	if err != nil {
		s.w.t.Fatalf("%s at %s: %v", device, s.name, err)
	}
	return p
}

// leaves ends a connection.
func (s *site) leaves(p *phone) {
	s.drop(p)
	s.home.Leave(p.Connection)
}

// drop takes a connection out of those that get pushes.
func (s *site) drop(p *phone) {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	s.mu.Lock()
	s.phones[p.User] = slices.DeleteFunc(s.phones[p.User], func(o *phone) bool { return o == p })
	s.mu.Unlock()
}

// of returns the connections of a user.
func (s *site) of(u pim.UserID) []*phone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.phones[u])
}

// writes appends a message to a conversation, and publishes it.
func (s *site) writes(id pim.ConversationID) {
	w := s.w
	if !s.meets() {
		s.mu.Lock()
		s.apart = true
		s.mu.Unlock()
	}
	w.mu.Lock()
	w.logs[id]++
	seq, members := w.logs[id], w.groups[id]
	w.mu.Unlock()
	s.home.Publish([]conv.Published{{Conversation: id, Members: members, Entries: []conv.Encoded{encodedEntry(seq)}}})
}

// meets reports whether s and all other nodes see each other.
func (s *site) meets() bool {
	for _, o := range s.w.running() {
		if s.bus.View().Node(o.name) == nil || o.bus.View().Node(s.name) == nil {
			return false
		}
	}
	return true
}

func encodedEntry(seq pim.Seq) conv.Encoded {
	e := pim.Entry{Seq: seq, Anchor: seq, Sender: "writer", Device: "d", Payload: []byte(fmt.Sprint(seq))}
	return conv.Encoded{Seq: seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}
}

// sync gives the device all that is durable.
func (p *phone) sync() {
	w := p.site.w
	w.mu.Lock()
	defer w.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, members := range w.groups {
		if slices.Contains(members, p.User) {
			p.has[id] = w.logs[id]
		}
	}
}

// lacks returns a conversation of which the device has not everything, "" if there is none.
func (p *phone) lacks() pim.ConversationID {
	w := p.site.w
	w.mu.Lock()
	defer w.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, members := range w.groups {
		if slices.Contains(members, p.User) && p.has[id] < w.logs[id] {
			return id
		}
	}
	return ""
}

// Deliver implements Sessions. A device that sees a gap pulls.
func (s *site) Deliver(_ []conv.Answer, pushes []conv.Published) {
	for i := range pushes {
		p := &pushes[i]
		users := slices.Clone(p.Members)
		for _, r := range p.Partly {
			users = append(users, r.User)
		}
		for _, u := range users {
			for _, c := range s.of(u) {
				c.mu.Lock()
				for _, e := range p.Entries {
					c.has[p.Conversation] = max(c.has[p.Conversation], e.Seq)
				}
				c.mu.Unlock()
			}
		}
	}
}

// Behind implements Sessions.
func (s *site) Behind(users []pim.UserID) (told int) {
	for _, u := range users {
		for _, c := range s.of(u) {
			c.sync()
			told++
		}
	}
	s.mu.Lock()
	s.told += told
	s.mu.Unlock()
	return told
}

// Hint implements Sessions.
func (s *site) Hint(x gateway.Hint) { s.screens.hint(s, x) }

// DropTyping implements Sessions.
func (s *site) DropTyping(n int) { s.screens.dropped.Add(int64(n)) }

// Replace implements Sessions.
func (s *site) Replace(_ context.Context, user pim.UserID, device pim.DeviceID, id uint64) (found bool) {
	for _, c := range s.of(user) {
		if c.ID == id {
			s.leaves(c)
			found = true
		}
	}
	s.mu.Lock()
	s.acks[device]++
	s.mu.Unlock()
	return found
}

// toldAll returns how many connections of all nodes were told to sync.
func (w *world) toldAll() (n int) {
	for _, s := range w.running() {
		s.mu.Lock()
		n += s.told
		s.mu.Unlock()
	}
	return n
}

// check checks, when all is quiet, that every device has everything and one connection, and that the
// homes know exactly the connections that are there.
func (w *world) check() error {
	type key struct {
		u pim.UserID
		d pim.DeviceID
	}
	at := make(map[key]*phone)
	sites := w.running()
	for _, s := range sites {
		for _, p := range s.all() {
			if id := p.lacks(); id != "" {
				return fmt.Errorf("%s/%s at %s lacks something of %s", p.User, p.Device, s.name, id)
			}
			k := key{p.User, p.Device}
			if o := at[k]; o != nil {
				return fmt.Errorf("%v is connected to %s and %s", k, o.site.name, s.name)
			}
			at[k] = p
		}
	}
	known := 0
	for _, s := range sites {
		var err error
		s.home.directory.retain(func(u pim.UserID, p *place) bool {
			if c := s.home.cluster.Load().homeOf(u); c == nil || !c.self {
				return true // it keeps them for a while
			}
			known++
			c := at[key{u, p.device}]
			if c == nil || c.site.name != p.gate.name || c.ID != p.conn {
				err = fmt.Errorf("%s knows %s/%s at %s, connection %d, and it is not there", s.name, u, p.device, p.gate.name, p.conn)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if known != len(at) {
		return fmt.Errorf("the homes know %d of %d connections", known, len(at))
	}
	return nil
}

// drains says that the node is about to stop.
func (s *site) drains() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops = true
	s.bus.Update(func(n *bus.Node) { n.Draining = true })
}
