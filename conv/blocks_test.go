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

// A block that was appended by a writer who wrote none of its cells is in force as soon
// as the next has written them, in conversations that are in memory, too, and though
// nobody sends that command again.
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

// stateless is a store that loses the answer to a commit, and of that what is for the
// partitions of writers' states.
type stateless struct {
	store.Store
	next atomic.Bool // it is the next commit
}

func (s *stateless) Commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if !s.next.Swap(false) {
		return s.Store.Commit(ctx, writes, d)
	}
	return unanswered(ctx, s.Store, writes, d, func(w store.Write) store.Write {
		return withCells(w, func(c store.CellWrite) bool { return !strings.HasPrefix(string(c.Partition), "state/") })
	})
}

// A block has two cells. One that was acknowledged is in force after a restart, also
// where the first try has written one of them.
func TestABlockWithOneOfItsCells(t *testing.T) {
	st, rec := &stateless{Store: storetest.NewMemory()}, newRecorder()
	chat := pim.Direct("alice", "bob")
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	for range 200 { // so many that there is a snapshot, which says that nobody is blocked
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
