package inbox_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A user is shown to contacts, and to those to whom the user has written directly; not to others
// who write to the user, and to nobody if either hides or blocks the other.
func TestPresence(t *testing.T) {
	s := storetest.NewMemory()
	x := inbox.New(s)
	at := pim.Seq(0)
	sets := func(u pim.UserID, kind pim.CommandKind, subject pim.UserID, on bool) {
		t.Helper()
		at++
		written(t, s, store.Write{Cells: []store.CellWrite{settingCell(u, pim.Command{Kind: kind, Subject: string(subject), Removed: !on}, at)}})
	}
	line := func(p store.Partition, with pim.UserID, own pim.Seq) {
		t.Helper()
		l := inbox.Line{Newest: 5, Count: 5, Mark: inbox.Mark{Own: own, OwnCount: uint64(own)}}
		written(t, s, store.Write{Cells: []store.CellWrite{{Partition: p, Cell: l.Cell(pim.Direct("bob", with))}}})
	}
	line(inbox.Fresh("bob"), "friend", 3)
	line(inbox.Lines("bob"), "old", 3)
	line(inbox.Fresh("bob"), "stranger", 0)
	line(inbox.Lines("bob"), "stranger2", 0)
	sets("bob", pim.CommandContact, "contact", true)
	sets("bob", pim.CommandContact, "blocked", true)
	sets("bob", pim.CommandBlock, "blocked", true)
	sets("bob", pim.CommandContact, "blocks", true)
	sets("blocks", pim.CommandBlock, "bob", true)
	sets("bob", pim.CommandContact, "hides", true)
	sets("hides", pim.CommandNoPresence, "hides", true)
	lookers := []pim.UserID{"blocked", "blocks", "contact", "friend", "hides", "nobody", "old", "stranger", "stranger2"}
	shows := func(want string, wantSeen pim.Millis) {
		t.Helper()
		seen, sees, err := x.Presence(t.Context(), "bob", lookers)
		var who []pim.UserID
		for i := range sees {
			if sees[i] {
				who = append(who, lookers[i])
			}
		}
		if got := fmt.Sprint(who); err != nil || got != want || seen != wantSeen {
			t.Errorf("bob is shown to %s, seen %d, %v; want %s, %d", got, seen, err, want, wantSeen)
		}
	}
	shows("[contact friend old]", 0)
	sets("bob", pim.CommandContact, "contact", false)
	shows("[friend old]", 0)
	sets("bob", pim.CommandNoPresence, "bob", true)
	shows("[]", 0)
	sets("bob", pim.CommandNoPresence, "bob", false)
	shows("[friend old]", 0)
}

// When a user was connected is stored once a minute, and not while the user hides. What is told of a
// user never goes back.
func TestSeen(t *testing.T) {
	s := storetest.NewMemory()
	a, x := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil), inbox.New(s)
	defer a.Close()
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("hides", pim.Command{Kind: pim.CommandNoPresence, Subject: "hides"}, 1)}})
	const start = pim.Millis(1_700_000_040_000) // a full minute
	for _, at := range []struct{ now, want pim.Millis }{{0, 0}, {30_000, 0}, {59_999, 0}, {60_000, 60_000}, {0, 60_000}, {150_000, 120_000}} {
		a.Seen("bob", start+at.now)
		a.Seen("hides", start+at.now)
		seen, _, err := x.Presence(t.Context(), "bob", nil)
		if err != nil || max(seen, a.LastSeen("bob")) != start+at.want {
			t.Errorf("bob was seen at %d, before the flush: %v", seen, err)
		}
		a.Flush(t.Context())
		if lately := a.LastSeen("bob"); lately != 0 {
			t.Errorf("bob was seen at %d, after the flush", lately)
		}
		if seen, _, err := x.Presence(t.Context(), "bob", nil); err != nil || seen != start+at.want {
			t.Errorf("bob was seen at %d, %v; want %d", seen, err, start+at.want)
		}
	}
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("hides", pim.Command{Kind: pim.CommandNoPresence, Subject: "hides", Removed: true}, 2)}})
	if seen, _, err := x.Presence(t.Context(), "hides", nil); err != nil || seen != 0 {
		t.Errorf("who hid was seen at %d, %v", seen, err)
	}
}

// A setting that cannot be read keeps nothing from being stored of other users. Acknowledgements are
// stored before.
func TestSeenOfOthers(t *testing.T) {
	s := storetest.NewMemory()
	var stored []pim.ConversationID
	var a *inbox.Acks
	a = inbox.NewAcks(s, slog.New(slog.DiscardHandler), func(id pim.ConversationID) {
		if a.LastSeen("ann") == 0 {
			t.Error("when ann was seen is stored before the acknowledgement")
		}
		stored = append(stored, id)
	})
	defer a.Close()
	entity := (&pim.Command{Kind: pim.CommandNoPresence, Subject: "bob"}).Entity()
	line := inbox.Line{Newest: 5, Count: 5}
	written(t, s, store.Write{Cells: []store.CellWrite{
		{Partition: inbox.Settings("bob"), Cell: store.Cell{Key: entity, Version: 1, Value: []byte("no setting")}},
		{Partition: inbox.Fresh("ann"), Cell: line.Cell("d:ann:bob")},
	}})
	for _, u := range []pim.UserID{"ann", "bob", "carl"} {
		a.Seen(u, 1_700_000_000_000)
	}
	a.Note("ann", "phone", 1, []inbox.Ack{{Conversation: "d:ann:bob", Seq: 3}})
	a.Flush(t.Context())
	for u, want := range map[pim.UserID]bool{"ann": true, "bob": false, "carl": true} {
		if _, ok, err := store.Lookup(t.Context(), s, inbox.Seen(u), "seen"); err != nil || ok != want {
			t.Errorf("when %s was seen is stored: %t, %v", u, ok, err)
		}
	}
	if len(stored) != 1 {
		t.Errorf("acknowledgements of %v are told", stored)
	}
}

// Only members of a conversation write in it and are told who does, and nobody who hides. In a
// direct conversation a block ends it for both.
func TestTyping(t *testing.T) {
	s := storetest.NewMemory()
	x := inbox.New(s)
	may := func(c pim.ConversationID, want string, users ...pim.UserID) {
		t.Helper()
		got, err := x.Typing(t.Context(), c, users)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("in %s %v may: %v, %v; want %s", c, users, got, err, want)
		}
	}
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("hides", pim.Command{Kind: pim.CommandNoPresence, Subject: "hides"}, 1)}})
	may("d:ann:bob", "[true true false]", "ann", "bob", "eve")
	may("d:ann:hides", "[true false]", "ann", "hides")
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", pim.Command{Kind: pim.CommandBlock, Subject: "ann"}, 1)}})
	may("d:ann:bob", "[false false]", "ann", "bob")
	var left, present inbox.Membership
	left.Join(1)
	left.Leave(4)
	present.Join(1)
	for u, m := range map[pim.UserID]inbox.Membership{"ann": present, "bob": present, "hides": present, "left": left} {
		written(t, s, store.Write{Cells: []store.CellWrite{{Partition: inbox.Members("g:x"), Cell: store.Cell{Key: string(u), Version: 4, Value: m.Value()}}}})
	}
	may("g:x", "[true true false false false]", "ann", "bob", "eve", "hides", "left")
	var many []pim.UserID
	for i := range 2000 {
		many = append(many, pim.UserID(fmt.Sprint("u", i)))
	}
	if got, err := x.Typing(t.Context(), "g:x", append(many, "ann")); err != nil || len(got) != 2001 || !got[2000] || got[0] {
		t.Errorf("of many: %v", err)
	}
}
