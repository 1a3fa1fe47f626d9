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
		case <-time.After(30 * time.Second):
			t.Fatal("the node is not seen")
		}
	}
}

// A node says its farewell some time after it has told the others that it drains.
func TestNodeLingers(t *testing.T) {
	const settle = time.Second
	network := bustest.NewNetwork()
	other := network.Join(bus.Node{Name: "other"})
	t.Cleanup(other.Close)
	var mu sync.Mutex
	var draining, farewell time.Time
	err := other.Start(t.Context(), &bus.Handler{
		Changed: []func(*bus.View){func(v *bus.View) {
			if n := v.Node("a"); n != nil && n.Draining {
				mu.Lock()
				draining = time.Now()
				mu.Unlock()
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
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if between := farewell.Sub(draining); between < settle/2 { // the word of a node takes 100 ms at most
		t.Errorf("the farewell came %v after the word that the node drains", between)
	}
}
