package conv_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// These tests read what a later version of pim wrote before this version took over again.

func put(t *testing.T, s store.Store, w store.Write) {
	t.Helper()
	if err := store.Commit(t.Context(), s, []*store.Write{&w}, store.Durable); err != nil {
		t.Fatal(err)
	}
}

// settingCell returns the cell of a setting as inbox.SettingCell makes it, for any command.
func settingCell(owner pim.UserID, key string, at pim.Seq, c pim.Command) store.CellWrite {
	set := pim.Setting{Command: c, At: at}
	cell := inbox.SettingCell(&set, inbox.SettingVersion(&set))
	cell.Key = key
	return store.CellWrite{Partition: inbox.Settings(owner), Cell: cell}
}

// An own log holds commands and settings with kinds and fields that this version does not
// know. The log still takes commands. What this version does not know stays as it is.
func TestOwnLogOfALaterVersion(t *testing.T) {
	s := storetest.NewMemory()
	folder := pim.Command{Kind: 60, Subject: "work", Value: []byte("Work"), Unknown: []byte{0x98, 0x75, 7}}
	// In this version a mute has no value, and no contact is so long.
	mute := pim.Command{Kind: pim.CommandMute, Subject: "g:x", Value: []byte("softly"), Unknown: []byte{0x98, 0x75, 1}}
	contact := pim.Command{Kind: pim.CommandContact, Subject: "eve", Value: make([]byte, 2*pim.MaxCommandValue)}
	late := pim.Command{Kind: pim.CommandPin, Subject: "g:x", Unknown: []byte{0x98, 0x75, 2}}
	var w store.Write
	w.Log = inbox.Entries(pim.Own("bob"))
	for i, c := range []pim.Command{folder, mute, contact, {Kind: 1 << 20, Subject: "x"}, late} {
		w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{
			Seq: pim.Seq(i + 1), Kind: pim.EntryCommand, Sender: "bob", Device: "d", ClientID: pim.ClientMessageID{byte(i + 1)}, Server: 1,
			Payload: wire.AppendCommand(nil, &c),
		}))
	}
	w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{
		Seq: 6, Kind: 300, Sender: "bob", Device: "d", ClientID: pim.ClientMessageID{6}, Server: 1, Members: []pim.UserID{"eve"},
	}))
	// The last command's cell is missing: the writer crashed.
	w.Cells = []store.CellWrite{settingCell("bob", "folder/work", 1, folder), settingCell("bob", "mute/g:x", 2, mute), settingCell("bob", "contact/eve", 3, contact)}
	put(t, s, w)

	rec := newRecorder()
	writers := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer writers.Close()
	for i := range 3 {
		if a, err := persist(writers, rec, command("bob", "d", pim.Command{Kind: pim.CommandBlock, Subject: "eve"})); err != nil || a.Seq != pim.Seq(7+i) {
			t.Fatalf("answered with seq %d, %v", a.Seq, err)
		}
	}
	if _, err := persist(writers, rec, command("bob", "d", folder)); pim.KindOf(err) != pim.KindUnsupported {
		t.Errorf("a new command of a kind that is not known: %v", err)
	}
	for _, c := range append(w.Cells, settingCell("bob", "pin/g:x", 5, late)) {
		got, ok, err := store.Lookup(t.Context(), s, inbox.Settings("bob"), c.Key)
		if err != nil || !ok || got.Version != c.Version || c.Key != "pin/g:x" && !bytes.Equal(got.Value, c.Value) {
			t.Errorf("%s is %+v, %v; want %+v", c.Key, got, err, c.Cell)
		}
		if set, err := inbox.ParseSetting(got); err != nil || c.Key == "pin/g:x" && !bytes.Equal(set.Unknown, late.Unknown) {
			t.Errorf("%s is %+v, %v", c.Key, set, err)
		}
	}
	page, err := inbox.New(s).Pull(t.Context(), "bob", inbox.PullRequest{Conversation: pim.Own("bob")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if len(page.Entries) <= i || !bytes.Equal(page.Entries[i].Data, w.Records[i]) {
			t.Errorf("entry %d is not pulled as it was written", i+1)
		}
	}
	// A block with a value, which only a later version knows, is still a block.
	put(t, s, store.Write{Cells: []store.CellWrite{settingCell("carl", "block/eve", 1, pim.Command{Kind: pim.CommandBlock, Subject: "eve", Value: []byte("x")})}})
	if _, err := persist(writers, rec, message("d:carl:eve", "eve", "x")); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("blocked with more than is known: %v", err)
	}
}

// In a group, entries of an unknown kind change nobody's membership, and cells keep their
// unknown flags.
func TestGroupOfALaterVersion(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "ann", Device: "d", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"bob"}}
	a, err := persist(w, rec, create)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	group := a.Request.Conversation
	member := inbox.Membership{Flags: 0x88, Periods: []inbox.Period{{From: 1}}}
	line := inbox.Line{Newest: 2}.Cell(group)
	line.Value = append([]byte{0x80 | line.Value[0]}, append(line.Value[1:], 1, 2, 3)...)
	put(t, s, store.Write{
		Log: inbox.Entries(group), After: 1,
		Records: [][]byte{wire.AppendEntry(nil, &pim.Entry{
			Seq: 2, Kind: 77, Sender: "ann", Device: "d", ClientID: pim.ClientMessageID{2}, Server: pim.MillisOf(time.Now()),
			Members: []pim.UserID{"bob", "eve"}, Unknown: []byte{0x98, 0x75, 1},
		})},
		Cells: []store.CellWrite{
			{Partition: inbox.Members(group), Cell: store.Cell{Key: "bob", Version: 2, Value: member.Value()}},
			{Partition: inbox.Lines("bob"), Cell: line},
		},
	})
	x := inbox.New(s)
	if page, err := x.Sync(t.Context(), inbox.SyncRequest{User: "bob", Device: "d"}); err != nil || len(page.Summaries) != 1 || page.Summaries[0].Newest != 2 || page.Summaries[0].Left {
		t.Errorf("bob is listed %+v, %v", page, err)
	}
	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	if _, err := persist(w, rec, message(group, "eve", "x")); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("eve was named by an entry of an unknown kind, and sends: %v", err)
	}
	if a, err := persist(w, rec, message(group, "bob", "x")); err != nil || a.Seq != 3 {
		t.Errorf("bob sends: %+v, %v", a, err)
	}
	leave := message(group, "bob", "")
	leave.Kind, leave.Members = pim.EntryLeave, []pim.UserID{"bob"}
	if _, err := persist(w, rec, leave); err != nil {
		t.Fatal(err)
	}
	cell, _, err := store.Lookup(t.Context(), s, inbox.Members(group), "bob")
	if got, perr := inbox.ParseMembership(cell.Value); err != nil || perr != nil || got.Flags != 0x88 || len(got.Periods) != 1 || got.Periods[0].To != 4 {
		t.Errorf("bob's membership is %+v, %v %v", got, err, perr)
	}
	if page, err := x.Pull(t.Context(), "ann", inbox.PullRequest{Conversation: group}); err != nil || len(page.Entries) != 4 {
		t.Errorf("pulled %+v, %v", page, err)
	}
}
