package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/home/homepb"
	"github.com/pim-im/pim/placement"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// stopSteps are what happens in a stop, in order, each once or, if it is moved, where it happened last.
type stopSteps struct {
	mu    sync.Mutex
	order []string
}

func (s *stopSteps) note(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.order, step) {
		s.order = append(s.order, step)
	}
}

// move has step be the last one so far.
func (s *stopSteps) move(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append(slices.DeleteFunc(s.order, func(o string) bool { return o == step }), step)
}

// appends notes the appends to a store that have ended.
type appends struct {
	store.Store
	note func()
}

// Begin implements store.Store.
func (a *appends) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	a.Store.Begin(ctx, writes, d, func(w *store.Write) {
		if w.Err == nil && len(w.Records) > 0 {
			a.note()
		}
		done(w)
	})
}

// watch joins the nodes as one that does nothing but note what b's stop looks like from there. until is called with
// each view.
func watch(t *testing.T, network *bustest.Network, s *stopSteps, until func(*bus.View)) bus.Bus {
	t.Helper()
	w := network.Join(bus.Node{Name: "watch", Roles: bus.RoleLBS})
	t.Cleanup(w.Close)
	err := w.Start(t.Context(), &bus.Handler{
		Changed: []func(*bus.View){until},
		Receive: map[bus.Kind]func(string, []byte){bus.KindAnnounce: func(from string, body []byte) {
			var m homepb.Announce
			if err := m.UnmarshalVT(body); err != nil {
				t.Error(err)
				return
			}
			if m.Farewell && from == "b" {
				s.note("b is nobody's home")
			}
			answer, err := (&homepb.Joined{Request: m.Request}).MarshalVT()
			if err = errors.Join(err, w.Send(from, bus.KindJoined, answer)); err != nil {
				t.Error(err)
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// One of three nodes is stopped while a device on it sends. Nothing is refused or lost, and the steps come in the
// order in which each needs those before it.
func TestStopOfOneOfThreeNodes(t *testing.T) {
	var s stopSteps
	var own bus.Bus // b's
	network := bustest.NewNetwork()
	nodes := startNodes(t, network, func(name string, c *server.Config, o *server.Options) {
		c.DrainWindow, o.Settle = 100*time.Millisecond, 300*time.Millisecond
		if name == "b" {
			own = o.Bus
			o.WrapStore = func(st store.Store) store.Store { return &appends{st, func() { s.move("b appends last") }} }
		}
	}, "a", "b", "c")
	a, b := nodes[0], nodes[1]
	stopping, served, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	serves, leaves := sync.OnceFunc(func() { close(served) }), sync.OnceFunc(func() { close(gone) })
	views := watch(t, network, &s, func(v *bus.View) {
		n := v.Node("b")
		select {
		case <-stopping:
		default:
			if len(v.Nodes) == 4 && !slices.ContainsFunc(v.Nodes, func(n bus.Node) bool { return n.Draining }) {
				serves()
			}
			return
		}
		switch {
		case n == nil:
			s.note("b has left")
			leaves()
		case n.Draining:
			if b.Ready() == nil {
				t.Error("others are told that b drains, and /readyz is 200")
			}
			s.note("b drains")
		}
	})
	<-served

	user := pim.UserID("") // b writes what alice sends to this user
	for i := 0; user == ""; i++ {
		u := pim.UserID(fmt.Sprint("user-", i))
		if writer, _ := placement.Of(views.View(), bus.RoleWriter, string(pim.Direct("alice", u))); writer == "b" {
			user = u
		}
	}
	bob := a.connect(string(user), "1", "http")
	alice, err := client.Open(t.Context(), client.Options{
		Servers: []string{b.url("tcp"), a.url("tcp"), nodes[2].url("tcp")}, User: "alice", Device: "1",
		Token:      func(context.Context) (string, error) { return a.keys.Issue("alice", time.Hour, time.Now()) },
		BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alice.Close() })
	online := make(chan struct{})
	connected := sync.OnceFunc(func() { close(online) })
	go func() {
		for ev := range alice.Events() {
			if e, ok := ev.(client.StateEvent); ok && e.State == client.Connected {
				connected()
			} else if ok {
				select {
				case <-stopping:
					if !own.View().Node("b").Draining {
						t.Error("devices are sent away, and others were not told that b drains")
					}
					s.note("devices are sent away")
				default:
				}
			}
		}
	}()
	<-online

	chat := pim.Direct("alice", user)
	var texts []string
	var sendings []*client.Sending
	send := func() {
		texts = append(texts, fmt.Sprint("message ", len(texts)))
		sending, err := alice.Send(t.Context(), chat, []byte(texts[len(texts)-1]))
		if err != nil {
			t.Fatal(err)
		}
		sendings = append(sendings, sending)
	}
	answered := func(sending *client.Sending) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if _, err := sending.Wait(ctx); err != nil {
			t.Errorf("a message was refused: %v", err)
		}
	}
	for range 50 {
		send()
	}
	answered(sendings[0]) // b has written it
	close(stopping)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.stop()
	}()
	for done := false; !done; {
		select {
		case <-stopped:
			done = true
		case <-time.After(5 * time.Millisecond):
			send()
		}
	}
	<-gone
	for range 10 {
		send()
	}
	for _, sending := range sendings {
		answered(sending)
	}
	bob.sees(texts...)

	s.mu.Lock()
	defer s.mu.Unlock()
	// The word that b drains travels while b goes on, so it may come before or after the next two.
	home := []string{"b is nobody's home", "b has left"}
	if n := len(s.order) - len(home); n != 3 || !slices.Equal(s.order[n:], home) {
		t.Errorf("the steps were %q; three others must come before %q", s.order, home)
	}
}
