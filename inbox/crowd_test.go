package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// lister counts the lists of members.
type lister struct {
	store.Store
	lists atomic.Int64
}

func (s *lister) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if strings.HasPrefix(string(p), "members/") && after == "" {
		s.lists.Add(1)
	}
	return s.Store.List(ctx, p, after, limit)
}

// The members of a large group are listed again after entries of a kind that may change anything, and
// after so many that it is not worth looking through them. Otherwise they are those of before, and
// those who have come since, without those who have gone.
func TestMembersAreKept(t *testing.T) {
	const members = 1201
	s := &lister{Store: storetest.NewMemory()}
	crowd(t, s, "g:crowd", members)
	x := inbox.New(s)
	x.Restless()
	last := pim.Seq(60)
	asks := func(x *inbox.Inbox, what string, wantMembers int, lists int64) {
		t.Helper()
		s.lists.Store(0)
		r, err := x.Receipts(t.Context(), "m00000", inbox.ReceiptRequest{Conversation: "g:crowd", From: 30})
		if err != nil || len(r.Messages) != 1 || r.Messages[0].Members != wantMembers-1 || s.lists.Load() != lists {
			t.Errorf("%s: %+v, %v after %d lists; want %d members after %d", what, r.Messages, err, s.lists.Load(), wantMembers-1, lists)
		}
	}
	appends := func(kind pim.EntryKind, n int, cells ...store.CellWrite) {
		t.Helper()
		w := store.Write{Log: inbox.Entries("g:crowd"), After: last, Cells: cells}
		for range n {
			last++
			w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{Seq: last, Kind: kind, Sender: "m00000", Device: "d"}))
		}
		written(t, s, w)
	}
	asks(x, "at first", members, 1)
	asks(x, "again", members, 0)
	for kind := pim.EntryMessage; kind < pim.EntryErase+2; kind++ {
		appends(kind, 1)
		want := int64(0)
		switch kind {
		case pim.EntryCreate, pim.EntryCommand, pim.EntryRetain + 1:
			want = 1
		}
		asks(x, fmt.Sprint("after an entry of kind ", kind), members, want)
	}
	var m inbox.Membership
	m.Join(1)
	changes := func(kind pim.EntryKind, user pim.UserID) {
		e := pim.Entry{Seq: last + 1, Kind: kind, Sender: "m00000", Device: "d", Members: []pim.UserID{user}}
		last++
		written(t, s, store.Write{
			Log: inbox.Entries("g:crowd"), After: last - 1, Records: [][]byte{wire.AppendEntry(nil, &e)},
			Cells: []store.CellWrite{{Partition: inbox.Members("g:crowd"), Cell: store.Cell{Key: string(user), Version: uint64(last), Value: m.Value()}}},
		})
	}
	m.Leave(last + 1)
	changes(pim.EntryLeave, "m00009")
	asks(x, "one has left", members-1, 0)
	m.Join(last + 1)
	changes(pim.EntryJoin, "m00009") // who does not read the message at seq 30
	asks(x, "one is back", members, 0)
	m.Leave(last + 1)
	changes(pim.EntryLeave, "m00009")
	m = inbox.Membership{Periods: []inbox.Period{{From: 1}}}
	changes(pim.EntryJoin, "a")
	changes(pim.EntryJoin, "z")
	m.Leave(last + 1)
	changes(pim.EntryLeave, "z")
	changes(pim.EntryLeave, "z")
	asks(x, "some have come and gone", members, 0)
	changes(pim.EntryLeave, "a")
	asks(x, "one has gone", members-1, 0)
	appends(pim.EntryMessage, 300)
	asks(x, "after some messages", members-1, 0)
	appends(pim.EntryMessage, 300)
	asks(x, "after more", members-1, 0)
	appends(pim.EntryMessage, 600)
	asks(x, "after many", members-1, 1)

	other := fmt.Sprint("g:", strings.Repeat("o", 10))
	for i := range 60 {
		c := pim.ConversationID(fmt.Sprint(other, i))
		crowd(t, s, c, members)
		if _, err := x.Receipts(t.Context(), "m00000", inbox.ReceiptRequest{Conversation: c, From: 30}); err != nil {
			t.Fatal(err)
		}
	}
	asks(x, "of too many groups some are forgotten", members-1, 1)
	asks(inbox.New(s), "in another process", members-1, 1)
}
