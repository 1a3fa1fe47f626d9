package simcluster

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
)

func run(t *testing.T, s Scale, members int) Report {
	t.Helper()
	r, err := Run(Config{Users: s.Users, Nodes: s.Nodes, Members: members, Messages: 1000, Every: 2 * time.Second, Payload: 100, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a message costs does not grow with the number of users, and with the number of nodes only until
// every member is at another node. Every message is answered, although a node dies and another one joins,
// and only their share moves.
func TestCostsStayFlat(t *testing.T) {
	for _, members := range []int{2, 20, 200} {
		for _, s := range Scales {
			r := run(t, s, members)
			m := float64(members)
			if r.Messages != 1000 {
				t.Errorf("%+v, %d members: %d messages were answered", s, members, r.Messages)
			}
			if most := 2 + m + r.Deliveries; r.BusMessages() > most*1.05 { // some requests are sent again
				t.Errorf("%+v, %d members: %.2f messages of the bus for one, at most %.2f", s, members, r.BusMessages(), most)
			}
			if r.Lookups > (1+m)*1.05 {
				t.Errorf("%+v, %d members: %.2f look-ups", s, members, r.Lookups)
			}
			if share := 100 / float64(s.Nodes); r.Moved > 2*share+3 || r.Announced > 3*share+3 {
				t.Errorf("%+v, %d members: %.1f %% of all has moved, %.1f %% of the devices were announced", s, members, r.Moved, r.Announced)
			}
			if r.Transactions > 1.2 {
				t.Errorf("%+v, %d members: %.2f transactions for a message", s, members, r.Transactions)
			}
		}
		last, before := run(t, Scales[len(Scales)-1], members), run(t, Scales[len(Scales)-2], members)
		if last.BusMessages() > 1.25*before.BusMessages() || last.BusBytes > 1.25*before.BusBytes {
			t.Errorf("%d members: from %d to %d nodes: %.2f to %.2f messages of the bus, %.0f to %.0f bytes",
				members, before.Nodes, last.Nodes, before.BusMessages(), last.BusMessages(), before.BusBytes, last.BusBytes)
		}
	}
}

// In a busy conversation messages share transactions, answers and publishes.
func TestBusyConversationsShare(t *testing.T) {
	c := Config{Users: 1000, Nodes: 40, Members: 20, Messages: 4000, Every: 2 * time.Millisecond, Seed: 1}
	busy, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	if busy.Transactions > 0.2 || busy.Publishes > 4 {
		t.Errorf("a message takes %.2f transactions and %.2f publishes", busy.Transactions, busy.Publishes)
	}
}

// Runs of one seed are alike, those of another seed are not.
func TestRunsRepeat(t *testing.T) {
	c := Config{Users: 1000, Nodes: 7, Members: 5, Messages: 500, Every: time.Second, Seed: 3}
	first, _ := Run(c)
	again, _ := Run(c)
	c.Seed = 4
	other, _ := Run(c)
	if first != again || first == other {
		t.Errorf("%+v\n%+v\n%+v", first, again, other)
	}
}

func TestBadConfigs(t *testing.T) {
	good := Config{Users: 2, Nodes: 2, Members: 2, Messages: 1, Every: 1}
	if _, err := Run(good); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.Users = 1 }, func(c *Config) { c.Nodes = 1 }, func(c *Config) { c.Members = 1 },
		func(c *Config) { c.Members = 3 }, func(c *Config) { c.Messages = 0 }, func(c *Config) { c.Every = 0 }, func(c *Config) { c.Payload = -1 },
	} {
		c := good
		if change(&c); c != good {
			if _, err := Run(c); pim.KindOf(err) != pim.KindInvalid {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
}
