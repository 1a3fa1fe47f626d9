package server_test

import (
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
