package conv_test

import (
	"math"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// inGroup returns a request by a user that changes the members of group c.
func inGroup(c pim.ConversationID, kind pim.EntryKind, by pim.UserID, members ...pim.UserID) *conv.Request {
	r := message(c, by, "")
	r.Kind, r.Members = kind, members
	return r
}

// The owner is the member who has been in the group longest; of members who came by one
// entry, the one whom the entry names first. That holds before and after a restart, however
// long ago the member came, whatever the engine did with its writes, and if all entries are
// trimmed each time.
func TestOwnerIsWhoHasBeenThereLongest(t *testing.T) {
	first, n := seeds.Schedules(t, 40, "")
	for seed := first; seed < first+n; seed++ {
		loose := storetest.Loose(storetest.NewMemory(), seed)
		loose.FailRate(0.3)
		rec := newRecorder()
		w := conv.New(loose, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		do := func(want pim.Kind, r *conv.Request) conv.Answer {
			t.Helper()
			if seed%2 == 1 && r.Conversation != "" {
				trimmed(t, w, r.Conversation, math.MaxInt64)
			}
			w.Close()
			w = conv.New(loose, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			a, err := persist(w, rec, r)
			if pim.KindOf(err) != want {
				t.Fatalf("PIM_SEED=%d: %s by %s of %v: %v", seed, r.Kind, r.Sender, r.Members, err)
			}
			return a
		}
		create := inGroup("", pim.EntryCreate, "mia", "zoe", "bob", "ann")
		g := do(0, create).Request.Conversation
		do(0, inGroup(g, pim.EntryJoin, "bob", "cat", "abe"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "zoe", "cat"))
		do(0, inGroup(g, pim.EntryLeave, "mia"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "ann", "cat"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "bob", "zoe"))
		do(0, inGroup(g, pim.EntryLeave, "zoe", "bob"))
		do(0, inGroup(g, pim.EntryJoin, "zoe", "mia", "bob"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "mia", "zoe")) // the user who created the group is its newest member now
		do(0, inGroup(g, pim.EntryLeave, "zoe", "zoe", "ann"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "abe", "cat"))
		do(0, inGroup(g, pim.EntryLeave, "cat", "abe"))
		do(0, inGroup(g, pim.EntryLeave, "cat"))
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "bob", "mia"))
		do(0, inGroup(g, pim.EntryLeave, "mia", "bob"))
		w.Close()
	}
}

// Within one batch, too, the owner leaves and the next owner removes a member.
func TestOwnerLeavesAndTheNextRemoves(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	create := inGroup("", pim.EntryCreate, "mia", "zoe", "bob")
	create.ClientID = pim.ClientMessageID{1}
	g := pim.NewGroup("mia", create.ClientID)
	var sent []*conv.Request
	for _, r := range []*conv.Request{create, inGroup(g, pim.EntryLeave, "mia"), inGroup(g, pim.EntryLeave, "bob", "zoe"), inGroup(g, pim.EntryLeave, "zoe", "bob")} {
		sent = append(sent, rec.track(r))
	}
	w.Submit(sent)
	for i, want := range []pim.Kind{0, 0, pim.KindForbidden, 0} {
		if a := rec.wait(sent[i]); pim.KindOf(a.Err) != want {
			t.Errorf("request %d: %v", i, a.Err)
		}
	}
}

// Long ago an earlier version left a group without an owner. The group has an owner now.
func TestGroupWithoutAnOwnerIsHealed(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	const group, last = pim.ConversationID("g:old"), 3000
	put(t, s, func() store.Write {
		w := store.Write{Log: inbox.Entries(group)}
		for seq := pim.Seq(1); seq <= last; seq++ {
			e := pim.Entry{Seq: seq, Kind: pim.EntryMessage, Sender: "bob", Device: "d", ClientID: pim.ClientMessageID{byte(seq >> 8), byte(seq)}, Server: pim.Millis(seq) * 1000}
			switch seq {
			case 1:
				e.Kind, e.Sender, e.Members = pim.EntryCreate, "mia", []pim.UserID{"mia", "zoe", "bob"}
			case 2:
				e.Kind, e.Sender, e.Members = pim.EntryLeave, "mia", []pim.UserID{"mia"}
			}
			w.Records = append(w.Records, wire.AppendEntry(nil, &e))
		}
		for user, value := range map[string][]byte{"mia": {1, 1, 2}, "zoe": {0, 1, 0}, "bob": {0, 1, 0}} {
			version := uint64(1)
			if user == "mia" {
				version = 2
			}
			w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Members(group), Cell: store.Cell{Key: user, Version: version, Value: value}})
		}
		return w
	}())
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	if _, err := persist(w, rec, inGroup(group, pim.EntryLeave, "bob", "zoe")); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("bob removes zoe: %v", err)
	}
	if _, err := persist(w, rec, inGroup(group, pim.EntryLeave, "zoe", "bob")); err != nil {
		t.Errorf("zoe removes bob: %v", err)
	}
}

// A group that everybody has left is closed: nobody can write to it, and nobody can be added.
// Its former members can still read what they could read before.
func TestClosedGroup(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	create := inGroup("", pim.EntryCreate, "mia", "bob")
	a, err := persist(w, rec, create)
	if err != nil {
		t.Fatal(err)
	}
	g := a.Request.Conversation
	for _, r := range []*conv.Request{message(g, "bob", "bye"), inGroup(g, pim.EntryLeave, "mia"), inGroup(g, pim.EntryLeave, "bob")} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second round is after a restart
		for _, r := range []*conv.Request{
			message(g, "bob", "anybody?"), inGroup(g, pim.EntryJoin, "mia", "mia"), inGroup(g, pim.EntryJoin, "bob", "eve"), inGroup(g, pim.EntryLeave, "mia", "bob"),
		} {
			if _, err := persist(w, rec, r); pim.KindOf(err) != pim.KindNotMember || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s by %s: %v", r.Kind, r.Sender, err)
			}
		}
		if _, err := persist(w, rec, message(g, "eve", "x")); pim.KindOf(err) != pim.KindNotMember || strings.Contains(err.Error(), "closed") {
			t.Errorf("a stranger: %v", err)
		}
		again := *create
		again.Conversation = ""
		if a, err := persist(w, rec, &again); err != nil || !a.Duplicate || a.Seq != 1 {
			t.Errorf("created again: %+v, %v", a, err)
		}
		for user, to := range map[pim.UserID]pim.Seq{"mia": 3, "bob": 4} {
			page, err := inbox.New(s).Pull(t.Context(), user, inbox.PullRequest{Conversation: g})
			if err != nil || len(page.Entries) != int(to) || page.Newest != to {
				t.Errorf("%s pulls %d entries up to %d, %v", user, len(page.Entries), page.Newest, err)
			}
		}
		w.Close()
		w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	}
	w.Close()
}
