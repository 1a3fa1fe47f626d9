package server_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
)

// The others give a node nothing until it has heard of them.
func TestNodeDrainsUntilItServes(t *testing.T) {
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	seen := make(chan bool, 100)
	changed := func(v *bus.View) {
		if n := v.Node("a"); n != nil {
			seen <- n.Draining
		}
	}
	if err := other.Start(t.Context(), &bus.Handler{Changed: []func(*bus.View){changed}}); err != nil {
		t.Fatal(err)
	}
	start(t, config(t), server.Options{Bus: network.Join(bus.Node{Name: "a"}), Settle: 200 * time.Millisecond})
	for i, want := range []bool{true, false} {
		select {
		case draining := <-seen:
			if draining != want {
				t.Fatalf("view %d: the node drains: %v", i+1, draining)
			}
		case <-time.After(5 * time.Minute):
			t.Fatal("the node is not seen")
		}
	}
}

// A node says its farewell some time after it has told the others that it drains.
func TestNodeLingers(t *testing.T) {
	const settle = 2 * time.Second
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	var mu sync.Mutex
	var draining, farewell time.Time
	serves := make(chan struct{})
	served := sync.OnceFunc(func() { close(serves) })
	err := other.Start(t.Context(), &bus.Handler{
		Changed: []func(*bus.View){func(v *bus.View) {
			switch n := v.Node("a"); {
			case n != nil && n.Draining:
				mu.Lock()
				draining = time.Now()
				mu.Unlock()
			case n != nil:
				mu.Lock()
				draining = time.Time{}
				mu.Unlock()
				served()
			}
		}},
		Receive: map[bus.Kind]func(string, []byte){bus.KindAnnounce: func(string, []byte) { // the farewell is the last one
			mu.Lock()
			farewell = time.Now()
			mu.Unlock()
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, config(t), server.Options{Bus: network.Join(bus.Node{Name: "a"}), Settle: settle})
	<-serves
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if draining.IsZero() || farewell.Sub(draining) < settle/8 { // the word takes 100 ms, and on a slow machine longer
		t.Errorf("the node said that it drains at %v, and farewell at %v", draining, farewell)
	}
}
