package conv_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// A new user can't have a name that looks like another's. A user who already has one keeps it.
func TestNamesOfNewcomers(t *testing.T) {
	const known, fresh, stranger = pim.UserID("zoe\u0301"), pim.UserID("noe\u0301"), pim.UserID("al\u200bice") // "zoé" in NFD; a space of no width
	s := storetest.NewMemory()
	line := inbox.Line{Newest: 1, Count: 1}
	w := &store.Write{Cells: []store.CellWrite{
		{Partition: inbox.Lines(known), Cell: line.Cell("g:old")},
		{Partition: inbox.Fresh(fresh), Cell: line.Cell("g:old")},
	}}
	if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	writers := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Members: 10, Logger: quiet()})
	defer writers.Close()
	create := func(members ...pim.UserID) *conv.Request {
		r := message("", "bob", "")
		r.Kind, r.Members, r.Payload = pim.EntryCreate, members, nil
		return r
	}
	command := func(kind pim.CommandKind, subject pim.UserID, removed bool) *conv.Request {
		r := message(pim.Own("bob"), "bob", "")
		r.Kind = pim.EntryCommand
		r.Payload = wire.AppendCommand(nil, &pim.Command{Kind: kind, Subject: string(subject), Removed: removed})
		return r
	}
	for _, c := range []struct {
		name string
		ask  func(who pim.UserID) *conv.Request
	}{
		{"a first message", func(u pim.UserID) *conv.Request { return message(pim.Direct("bob", u), "bob", "x") }},
		{"a group", func(u pim.UserID) *conv.Request { return create("carol", u) }},
		{"a contact", func(u pim.UserID) *conv.Request { return command(pim.CommandContact, u, false) }},
		{"a block", func(u pim.UserID) *conv.Request { return command(pim.CommandBlock, u, false) }},
	} {
		if _, err := persist(writers, rec, c.ask(stranger)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s with %+q: %v, want invalid", c.name, stranger, err)
		}
		for _, u := range []pim.UserID{known, fresh, "dora", "王小明"} {
			if _, err := persist(writers, rec, c.ask(u)); err != nil {
				t.Errorf("%s with %+q: %v", c.name, u, err)
			}
		}
	}
	if _, err := persist(writers, rec, command(pim.CommandBlock, stranger, true)); err != nil {
		t.Errorf("what was never there is taken away: %v", err)
	}

	group := create("carol")
	if _, err := persist(writers, rec, group); err != nil {
		t.Fatal(err)
	}
	join := func(u pim.UserID) error {
		r := message(pim.NewGroup("bob", group.ClientID), "bob", "")
		r.Kind, r.Members, r.Payload = pim.EntryJoin, []pim.UserID{u}, nil
		_, err := persist(writers, rec, r)
		return err
	}
	if err := join(stranger); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a join of %+q: %v, want invalid", stranger, err)
	}
	if err := join(known); err != nil {
		t.Errorf("a join of %+q: %v", known, err)
	}
}

// Names are not checked again in a conversation that has begun, nor for a request that has
// had its effect.
func TestNamesInUse(t *testing.T) {
	s := storetest.NewMemory()
	const odd = pim.UserID("zoe\u0301")
	chat := pim.Direct("bob", odd)
	entry := pim.Entry{Conversation: chat, Seq: 1, Kind: pim.EntryMessage, Sender: odd, ClientID: pim.ClientMessageID{1}, Server: 1, Local: 1, Anchor: 1, Count: 1}
	w := &store.Write{Log: inbox.Entries(chat), Records: [][]byte{wire.AppendEntry(nil, &entry)}} // no cell says that odd is known
	if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	writers := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer writers.Close()
	for _, u := range []pim.UserID{"bob", odd} {
		if _, err := persist(writers, rec, message(chat, u, "on")); err != nil {
			t.Errorf("%+q goes on: %v", u, err)
		}
	}
	again := message(chat, odd, "")
	again.ClientID = entry.ClientID
	if a, err := persist(writers, rec, again); err != nil || a.Seq != 1 {
		t.Errorf("sent again: %+v, %v", a, err)
	}
}
