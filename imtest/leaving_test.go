package imtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// While a pull of bob's has read his membership but not the log yet, bob leaves and
// alice goes on writing. The pull returns nothing from after his leaving.
func TestLeavingDuringPull(t *testing.T) {
	t.Parallel()
	gate := &pullGate{user: "bob", looked: make(chan struct{}), resume: make(chan struct{})}
	resume := sync.OnceFunc(func() { close(gate.resume) })
	lab := imtest.NewLab(t, imtest.LabOptions{DropPushes: 1, Break: server.Options{
		WrapStore: func(s store.Store) store.Store { return gatedStore{s, gate} },
	}})
	t.Cleanup(resume) // before the lab waits for its server to end
	alice, bob := lab.User("alice"), lab.User("bob")
	g := alice.Creates("bob")
	alice.Sends(g, "one") // a second entry: a single one would come with the sync, without a pull
	lab.Settled()
	gate.arm(inbox.Members(g))
	phone := lab.Device("bob", "tablet") // which pulls everything
	<-gate.looked
	bob.Leaves(g)
	lab.Settled()
	alice.Sends(g, "without bob")
	lab.Settled()
	resume()
	phone.CatchesUp()
	nothingFound(t, lab.Finish())
}

// pullGate holds back one read of a user's membership after the store has answered it.
type pullGate struct {
	user           string
	looked, resume chan struct{}

	mu        sync.Mutex
	partition store.Partition // empty: not armed
}

func (g *pullGate) arm(p store.Partition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.partition = p
}

// trip reports whether this is the read to hold back.
func (g *pullGate) trip(p store.Partition, key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.partition == "" || p != g.partition || key != g.user {
		return false
	}
	g.partition = ""
	return true
}

type gatedStore struct {
	store.Store
	gate *pullGate
}

func (s gatedStore) Get(ctx context.Context, gets []store.Get) error {
	err := s.Store.Get(ctx, gets)
	for i := range gets {
		if s.gate.trip(gets[i].Partition, gets[i].Key) {
			close(s.gate.looked)
			<-s.gate.resume
		}
	}
	return err
}
