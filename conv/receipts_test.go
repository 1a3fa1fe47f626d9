package conv_test

import (
	"fmt"
	"strings"
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

// receipts asks for the receipts of seqs from..to as user.
func receipts(t *testing.T, s store.Store, user pim.UserID, c pim.ConversationID, from, to pim.Seq) inbox.Receipts {
	t.Helper()
	r, err := inbox.New(s).Receipts(t.Context(), user, inbox.ReceiptRequest{Conversation: c, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// appended writes an entry as a writer that dies before anything else of its batch is written.
func appended(t *testing.T, s store.Store, e pim.Entry) {
	t.Helper()
	e.ClientID = pim.ClientMessageID{byte(e.Seq), 1}
	put(t, s, store.Write{Log: inbox.Entries(e.Conversation), After: e.Seq - 1, Records: [][]byte{wire.AppendEntry(nil, &e)}})
}

func group(t *testing.T, w *conv.Writers, rec *recorder, by pim.UserID, others ...pim.UserID) pim.ConversationID {
	t.Helper()
	create := &conv.Request{Kind: pim.EntryCreate, Sender: by, Device: "d", ClientID: pim.NewClientMessageID(time.Now()), Members: others}
	a, err := persist(w, rec, create)
	if err != nil {
		t.Fatal(err)
	}
	return a.Request.Conversation
}

// A writer died after it had appended a read command or a message of a group, and before the read
// cell was written. The writer that takes the log over writes the cell with its first batch, with
// the entry's time. A read that was given while no-receipts was in force stays hidden.
func TestReadCellsComeBack(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	g := group(t, w, rec, "ann", "bob", "carl")
	chat := pim.Direct("ann", "bob")
	for _, c := range []pim.ConversationID{chat, g} {
		if _, err := persist(w, rec, message(c, "ann", "hi")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := persist(w, rec, command("carl", "d", pim.Command{Kind: pim.CommandNoReceipts, Subject: "carl"})); err != nil {
		t.Fatal(err)
	}
	w.Close()
	reads := func(user pim.UserID, seq pim.Seq, c pim.ConversationID, to pim.Seq) {
		cmd := pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: to, Shown: user != "carl"}
		appended(t, s, pim.Entry{
			Conversation: pim.Own(user), Seq: seq, Kind: pim.EntryCommand, Sender: user, Device: "d", Server: 77, Payload: wire.AppendCommand(nil, &cmd),
		})
	}
	reads("bob", 1, chat, 1)
	reads("carl", 2, g, 2)
	appended(t, s, pim.Entry{Conversation: g, Seq: 3, Kind: pim.EntryMessage, Sender: "bob", Device: "d", Server: 78, Count: 2})

	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	pin := pim.Command{Kind: pim.CommandPin, Subject: string(g)}
	for _, r := range []*conv.Request{
		command("bob", "d", pin), message(g, "ann", "hi"),
		command("carl", "d", pim.Command{Kind: pim.CommandNoReceipts, Subject: "carl", Removed: true}),
	} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	if r := receipts(t, s, "ann", chat, 1, 1); r.Read != 1 || r.ReadAt != 77 {
		t.Errorf("ann is told of %s: %+v", chat, r)
	}
	page, err := inbox.New(s).Receipts(t.Context(), "ann", inbox.ReceiptRequest{Conversation: g, From: 2, Readers: true})
	if got := fmt.Sprint(page.Readers); err != nil || got != "[{bob true 78} {carl false 0}]" {
		t.Errorf("ann is told %s, %v", got, err)
	}
}

// A read that was shown stays shown: if a switch and a later read are in its batch, if they are in
// the first batch of a writer that takes the log over, and if the settings that such a writer loads
// are newer. A read that was not shown stays hidden.
func TestShownReadsStay(t *testing.T) {
	chat := pim.Direct("ann", "bob")
	read := func(seq pim.Seq) pim.Command {
		return pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: seq}
	}
	hide := pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob"}
	show := pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob", Removed: true}
	pin := pim.Command{Kind: pim.CommandPin, Subject: string(chat)}
	type commands []pim.Command
	for name, c := range map[string]struct {
		before   commands // each is answered before the next one
		appended commands // by a writer that dies
		cells    bool     // of the last setting of each entity of these were written
		batch    commands // together, to the next writer
		want     pim.Seq
	}{
		"in one batch":                        {nil, nil, false, commands{hide, show, read(2), hide, read(3), show}, 2},
		"hidden in one batch":                 {nil, nil, false, commands{read(1), hide, read(3), show, pin}, 1},
		"before a takeover":                   {nil, commands{read(2)}, false, commands{hide, read(3)}, 2},
		"before cells of the tail":            {nil, commands{read(2), hide, read(3)}, true, commands{pin}, 2},
		"between switches of the tail":        {commands{hide, pin}, commands{read(1), show, read(2), hide, read(3), show}, true, commands{pin}, 2},
		"hidden before a switch of the tail":  {commands{hide, pin}, commands{read(2), show}, true, commands{pin}, 0},
		"shown before a switch of the tail":   {commands{hide, show, pin}, commands{read(2), hide}, true, commands{pin}, 2},
		"hidden before the same switch again": {commands{hide, pin}, commands{read(2), hide, read(3)}, true, commands{pin}, 0},
		"hidden in the tail":                  {commands{read(1), hide}, commands{read(2)}, false, commands{show}, 1},
		"said again when shown":               {commands{hide, read(2)}, commands{show, read(2), hide, read(3)}, true, commands{pin}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, rec := storetest.NewMemory(), newRecorder()
			w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			for range 3 {
				if _, err := persist(w, rec, message(chat, "ann", "hi")); err != nil {
					t.Fatal(err)
				}
			}
			last, greatest, hidden := pim.Seq(0), pim.Seq(0), false
			note := func(cmd *pim.Command) {
				switch {
				case cmd.Kind == pim.CommandNoReceipts:
					hidden = !cmd.Removed
				case cmd.Seq > greatest:
					greatest, cmd.Shown = cmd.Seq, !hidden
				}
			}
			for _, cmd := range c.before {
				note(&cmd)
				if _, err := persist(w, rec, command("bob", "d", cmd)); err != nil {
					t.Fatal(err)
				}
				last++
			}
			w.Close()
			for _, cmd := range c.appended {
				note(&cmd)
				last++
				appended(t, s, pim.Entry{
					Conversation: pim.Own("bob"), Seq: last, Kind: pim.EntryCommand, Sender: "bob", Device: "d", Server: 77, Payload: wire.AppendCommand(nil, &cmd),
				})
				if c.cells {
					put(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", cmd.Entity(), last, cmd)}})
				}
			}
			w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			defer w.Close()
			var requests []*conv.Request
			for _, cmd := range c.batch {
				requests = append(requests, rec.track(command("bob", "d", cmd)))
			}
			w.Submit(requests)
			for _, r := range requests {
				if a := rec.wait(r); a.Err != nil {
					t.Fatal(a.Err)
				}
			}
			if _, err := persist(w, rec, command("bob", "d", show)); err != nil {
				t.Fatal(err)
			}
			if r := receipts(t, s, "ann", chat, 1, 3); r.Read != c.want {
				t.Errorf("ann is told that bob has read up to %d, want %d", r.Read, c.want)
			}
		})
	}
}

// A process died after it had appended a no-receipts command and before the effect was written.
// Nobody sends the command again. Another process settles the intent within two rounds.
func TestNoReceiptsThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec := storetest.NewMemory(), newRecorder()
		w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		defer w.Close()
		g := group(t, w, rec, "ann", "bob")
		if _, err := persist(w, rec, message(g, "ann", "hi")); err != nil {
			t.Fatal(err)
		}
		told := func(want string) {
			t.Helper()
			if got := fmt.Sprint(receipts(t, s, "ann", g, 2, 2).Messages); got != want {
				t.Errorf("ann is told %s, want %s", got, want)
			}
		}
		told("[{2 0 1}]")
		put(t, s, store.Write{Cells: []store.CellWrite{{
			Partition: "~intents/0", Cell: store.Cell{Key: "dead/u:bob", Version: 1, Value: []byte{1}},
		}}})
		cmd := pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob"}
		appended(t, s, pim.Entry{
			Conversation: pim.Own("bob"), Seq: 1, Kind: pim.EntryCommand, Sender: "bob", Device: "d", Server: 1, Payload: wire.AppendCommand(nil, &cmd),
		})
		time.Sleep(61 * time.Second)
		synctest.Wait()
		told("[{2 0 0}]")
		noIntents(t, s)
	})
}

// No-receipts holds in all groups of the user from its answer on, however many they are and
// however badly the store works; and so does its end.
func TestNoReceiptsInManyGroups(t *testing.T) {
	mem := storetest.NewMemory()
	s, rec := storetest.Loose(mem, seeds.First(t)), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
	defer w.Close()
	const groups = 20
	var ids []pim.ConversationID
	for range groups {
		g := group(t, w, rec, "ann", "bob")
		if _, err := persist(w, rec, message(g, "ann", "hi")); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, g)
	}
	for round := range 4 {
		on := round%2 == 0
		s.FailRate(0.2)
		if _, err := persist(w, rec, command("bob", "d", pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob", Removed: !on})); err != nil {
			t.Fatal(err)
		}
		s.FailRate(0)
		want := "[{2 0 1}]"
		if on {
			want = "[{2 0 0}]"
		}
		for _, g := range ids {
			if got := fmt.Sprint(receipts(t, mem, "ann", g, 2, 2).Messages); got != want {
				t.Fatalf("round %d: ann is told %s, want %s", round, got, want)
			}
		}
	}
}

// A user hides for themselves only, and not with fields of other kinds.
func TestHidingRefuses(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	for _, c := range []pim.Command{
		{Kind: pim.CommandNoReceipts, Subject: "bob"},
		{Kind: pim.CommandNoPresence, Subject: "bob"},
		{Kind: pim.CommandNoReceipts, Subject: "ann", Value: []byte("x")},
		{Kind: pim.CommandNoReceipts, Subject: "ann", Seq: 1},
		{Kind: pim.CommandNoReceipts, Subject: strings.Repeat("x", 65)},
	} {
		if _, err := persist(w, rec, command("ann", "d", c)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// readNames is a recorder that also notes the conversations which own logs say were read.
type readNames struct {
	*recorder
	names []pim.ConversationID // guarded by mu
	set   int                  // guarded by mu; how many publications say that settings changed
}

// Deliver implements conv.Outlet.
func (r *readNames) Deliver(answers []conv.Answer, pushes []conv.Published) {
	r.mu.Lock()
	for _, p := range pushes {
		r.names = append(r.names, p.Read...)
		if p.Settings {
			r.set++
		}
	}
	r.mu.Unlock()
	r.recorder.Deliver(answers, pushes)
}

// The own log's writer names the conversations of which others may see a new position: not those
// that were read while no-receipts was in force, nor for a message. And it says whether anything else
// was set.
func TestWhatWasReadIsNamed(t *testing.T) {
	s, rec := storetest.NewMemory(), &readNames{recorder: newRecorder()}
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	chat := pim.Direct("ann", "bob")
	read := func(seq pim.Seq) *conv.Request {
		return command("bob", "d", pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: seq})
	}
	switches := func(on bool) *conv.Request {
		return command("bob", "d", pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob", Removed: on})
	}
	for i, r := range []*conv.Request{
		message(chat, "ann", "1"), message(chat, "ann", "2"), message(chat, "ann", "3"),
		read(1), switches(false), read(2), switches(true), read(3),
	} {
		if _, err := persist(w, rec.recorder, r); err != nil {
			t.Fatal(i, err)
		}
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if got := fmt.Sprint(rec.names); got != "[d:ann:bob d:ann:bob]" || rec.set != 2 {
		t.Errorf("%s were read, and settings changed %d times", got, rec.set)
	}
}
