package conv_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// A writer appended a block command and wrote none of its cells. The block is in force as
// soon as the next writer of the log has written the cells. That is so in conversations that
// are in memory already, too, and though nobody sends the block command again.
func TestABlockThatWasOnlyAppended(t *testing.T) {
	for _, commands := range []int{1, 200} {
		mem, rec := storetest.NewMemory(), newRecorder()
		chat := pim.Direct("alice", "bob")
		w := store.Write{Log: inbox.Entries(pim.Own("alice"))}
		for i := range commands {
			c := pim.Command{Kind: pim.CommandContact, Subject: fmt.Sprint("u", i)}
			if i == 0 {
				c = pim.Command{Kind: pim.CommandBlock, Subject: "bob"}
			}
			w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{
				Seq: pim.Seq(i + 1), Kind: pim.EntryCommand, Sender: "alice", Device: "d",
				ClientID: pim.ClientMessageID{byte(i), 1}, Server: 1, Payload: wire.AppendCommand(nil, &c),
			}))
		}
		put(t, mem, w)
		writers := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		if _, err := persist(writers, rec, message(chat, "bob", "nothing tells of the block yet")); err != nil {
			t.Fatal(err)
		}
		if _, err := persist(writers, rec, command("alice", "d", pim.Command{Kind: pim.CommandContact, Subject: "eve"})); err != nil {
			t.Fatal(err)
		}
		if _, err := persist(writers, rec, message(chat, "bob", "blocked")); pim.KindOf(err) != pim.KindForbidden {
			t.Errorf("%d commands: bob's message: %v", commands, err)
		}
		writers.Close()
	}
}

// effectless is a store that loses one effect: nothing of it takes effect, and the writer has
// no answer.
type effectless struct {
	store.Store
	next atomic.Bool // the next effect is that one
}

func (s *effectless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *effectless) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if !writes[0].Raise || !s.next.Swap(false) {
		return store.Commit(ctx, s.Store, writes, d)
	}
	return unanswered(ctx, s.Store, writes, d, func(store.Write) store.Write { return store.Write{} })
}

// An acknowledged block is in force, at once and after a restart, even if its effect was lost
// at first.
func TestABlockWhoseEffectWasLost(t *testing.T) {
	st, rec := &effectless{Store: storetest.NewMemory()}, newRecorder()
	chat := pim.Direct("alice", "bob")
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	for range 200 { // enough for a snapshot, which says that nobody is blocked
		if _, err := persist(w, rec, message(chat, "bob", "")); err != nil {
			t.Fatal(err)
		}
	}
	st.next.Store(true)
	if _, err := persist(w, rec, command("alice", "d", pim.Command{Kind: pim.CommandBlock, Subject: "bob"})); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := persist(w, rec, message(chat, "bob", "blocked")); pim.KindOf(err) != pim.KindForbidden {
			t.Errorf("bob's message: %v", err)
		}
		w.Close()
		w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	}
	w.Close()
	noIntents(t, st)
}

// noIntents checks that no intent is left in s.
func noIntents(t *testing.T, s store.Store) {
	t.Helper()
	for n := range 16 {
		left, err := s.List(t.Context(), store.Partition(fmt.Sprintf("~intents/%x", n)), "", 10)
		if err != nil || len(left) > 0 {
			t.Errorf("intents that are left: %v, %v", left, err)
		}
	}
}

// A process died after it had appended a block and before it wrote the effect. Nobody sends
// the command again. Another process settles the intent within two rounds; at once if it has the
// store for itself.
func TestAnIntentThatStays(t *testing.T) {
	for name, wait := range map[string]time.Duration{"others may write": 61 * time.Second, "alone": 0} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { settlesABlock(t, wait) }) })
	}
}

// settlesABlock fails the test if Writers have not settled a block after wait. If that is 0 they are alone.
func settlesABlock(t *testing.T, wait time.Duration) {
	mem, rec := storetest.NewMemory(), newRecorder()
	chat := pim.Direct("alice", "bob")
	put(t, mem, store.Write{Cells: []store.CellWrite{{
		Partition: "~intents/0", Cell: store.Cell{Key: "dead/u:alice", Version: 1, Value: []byte{1}},
	}}})
	block := pim.Command{Kind: pim.CommandBlock, Subject: "bob"}
	put(t, mem, store.Write{Log: inbox.Entries(pim.Own("alice")), Records: [][]byte{wire.AppendEntry(nil, &pim.Entry{
		Seq: 1, Kind: pim.EntryCommand, Sender: "alice", Device: "d",
		ClientID: pim.ClientMessageID{1}, Server: 1, Payload: wire.AppendCommand(nil, &block),
	})}})
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Alone: wait == 0, Logger: quiet()})
	defer w.Close()
	if wait != 0 {
		if _, err := persist(w, rec, message(chat, "bob", "nothing tells of the block yet")); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(wait)
	synctest.Wait()
	if _, err := persist(w, rec, message(chat, "bob", "blocked")); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("bob's message: %v", err)
	}
	noIntents(t, mem)
}

// To set or lift a block costs the other conversations nothing, and the conversation of the
// two users one load.
func TestABlockCostsOthersNothing(t *testing.T) {
	st, rec := &reads{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	const others = 50
	toAll := func() {
		for i := range others {
			if _, err := persist(w, rec, message(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), "alice", "hi")); err != nil {
				t.Fatal(err)
			}
		}
	}
	toAll()
	for round := range 4 {
		c := pim.Command{Kind: pim.CommandBlock, Subject: "u0", Removed: round%2 == 1}
		if _, err := persist(w, rec, command("alice", "d", c)); err != nil {
			t.Fatal(err)
		}
		st.calls.Store(0)
		toAll()
		if n := st.calls.Load(); n > 5 { // the last seq and fence, the state, two settings, the tail
			t.Errorf("round %d: %d reads", round, n)
		}
		_, err := persist(w, rec, message(pim.Direct("alice", "u0"), "u0", "hi"))
		if blocked := pim.KindOf(err) == pim.KindForbidden; blocked == c.Removed {
			t.Errorf("round %d: u0's message: %v", round, err)
		}
	}
}

// A frame may hold a thousand blocks, and any of their effects may get no answer. Those that
// did are not written again, so all blocks are answered, and all hold.
func TestManyBlocksAtOnce(t *testing.T) {
	loose, rec := storetest.Loose(storetest.NewMemory(), seeds.First(t)), newRecorder()
	w := conv.New(loose, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
	defer w.Close()
	const users = 200
	blocks := make([]*conv.Request, users)
	for i := range blocks {
		blocks[i] = command("alice", "d", pim.Command{Kind: pim.CommandBlock, Subject: fmt.Sprint("u", i)})
	}
	loose.FailRate(0.2)
	var running sync.WaitGroup
	for _, r := range blocks {
		running.Go(func() {
			if _, err := persist(w, rec, r); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	loose.FailRate(0)
	for i := range blocks {
		u := pim.UserID(fmt.Sprint("u", i))
		if _, err := persist(w, rec, message(pim.Direct("alice", u), u, "hi")); pim.KindOf(err) != pim.KindForbidden {
			t.Fatalf("%s's message: %v", u, err)
		}
	}
}
