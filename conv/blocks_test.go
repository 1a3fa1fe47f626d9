package conv_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
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

// stateless is a store that loses the answer to one commit, and those cells of that commit
// that go to the partitions of writers' states.
type stateless struct {
	store.Store
	next atomic.Bool // the next commit is that one
}

func (s *stateless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *stateless) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if !s.next.Swap(false) {
		return store.Commit(ctx, s.Store, writes, d)
	}
	return unanswered(ctx, s.Store, writes, d, func(w store.Write) store.Write {
		return withCells(w, func(c store.CellWrite) bool { return !strings.HasPrefix(string(c.Partition), "state/") })
	})
}

// A block has two cells. An acknowledged block is in force after a restart, even if the first
// try wrote only one of its cells.
func TestABlockWithOneOfItsCells(t *testing.T) {
	st, rec := &stateless{Store: storetest.NewMemory()}, newRecorder()
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
	w.Close()
	w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	if _, err := persist(w, rec, message(chat, "bob", "blocked")); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("bob's message: %v", err)
	}
}
