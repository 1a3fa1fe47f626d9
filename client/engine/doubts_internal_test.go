package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// What a Welcome says of a store that this device knew as "one", with the serial 5.
func TestMeet(t *testing.T) {
	for _, test := range []struct {
		name        string
		welcome     *wirepb.Welcome
		doubt, list bool   // list: that is the only reason for a full sync
		store       string // as it is known from now on
	}{
		{"the same", &wirepb.Welcome{Store: "one", AckSerial: 5}, false, false, "one"},
		{"it knows more", &wirepb.Welcome{Store: "one", AckSerial: 6}, false, false, "one"},
		{"it knows less", &wirepb.Welcome{Store: "one", AckSerial: 4}, true, true, "one"},
		{"another", &wirepb.Welcome{Store: "two", AckSerial: 5}, true, true, "two"},
		{"one that says nothing", &wirepb.Welcome{AckSerial: 5}, false, false, "one"},
		{"one whose name is too long", &wirepb.Welcome{Store: strings.Repeat("n", maxStoreName+1), AckSerial: 5}, false, false, "one"},
	} {
		var fx effects
		fx.meta = Meta{Store: "one", Heard: 5}
		ds := doubts{fx: &fx}
		ds.meet(test.welcome)
		if m := fx.meta; m.Doubt != test.doubt || m.FullSync != test.doubt || ds.list != test.list ||
			m.Store != test.store || m.Heard != test.welcome.AckSerial || fx.take().Store.Meta == nil {
			t.Errorf("%s: %+v, list %v", test.name, m, ds.list)
		}
		ds.meet(&wirepb.Welcome{Store: test.store, AckSerial: 9, StorageBehind: true}) // there is another reason
		if ds.list {
			t.Errorf("%s: a full sync is due for a backup of this device too", test.name)
		}
	}
}

// At most maxPulls are compared at once, in the order in which they came; the own log is
// the last.
func TestDoubtsTakeTurns(t *testing.T) {
	ds := doubts{fx: new(effects)}
	var all []*conversation
	for i := range maxPulls + 2 {
		c := named("d:alice:" + string(rune('b'+i)))
		c.known = 1
		all = append(all, c)
	}
	own := named(string(pim.Own("alice")))
	ds.add(own, 10)
	for _, c := range all {
		ds.add(c, 10)
	}
	var turns []*conversation
	for c := ds.next(); c != nil; c = ds.next() {
		turns = append(turns, c)
	}
	if !slices.Equal(turns, all[:maxPulls]) {
		t.Fatalf("%d are compared at once", len(turns))
	}
	ds.trust(all[0])
	ds.trust(all[maxPulls]) // it has not had its turn
	ds.trust(named("d:alice:bob"))
	if c := ds.next(); c != all[maxPulls+1] || ds.next() != nil {
		t.Fatalf("the next is %v", c)
	}
	ds.opened()
	ds.unsure = true
	for _, c := range all[1:maxPulls] {
		ds.add(c, 10) // anew
		ds.trust(c)
	}
	ds.add(own, 10)
	ds.add(all[maxPulls+1], 10)
	if c := ds.next(); c != all[maxPulls+1] || ds.next() != nil || ds.count != 2 {
		t.Fatalf("of %d in doubt the turn is %v's, and the own log's", ds.count, c)
	}
	ds.trust(all[maxPulls+1])
	if ds.next() != own {
		t.Fatal("the own log has no turn")
	}
	ds.trust(own)
	if ds.settled() || ds.active != 0 {
		t.Fatalf("one was not compared; %d are", ds.active)
	}
	ds.opened()
	if !ds.settled() {
		t.Fatal("all could be compared")
	}
}
