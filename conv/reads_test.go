package conv_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

func readCommand(c pim.ConversationID, seq pim.Seq, count uint64) *conv.Request {
	return command("alice", "d", pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: seq, Count: count})
}

// written returns the command that a, the answer to one, says was appended in its place.
func written(t *testing.T, a conv.Answer) pim.Command {
	t.Helper()
	cmd, err := wire.DecodeCommand(a.Payload)
	if err != nil || cmd.Kind != pim.CommandRead {
		t.Fatalf("answered with %+v, %v", cmd, err)
	}
	return cmd
}

// withGroup creates a group of alice and bob with three messages, at the seqs 2 to 4.
func withGroup(t *testing.T, w *conv.Writers, rec *recorder) pim.ConversationID {
	t.Helper()
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "bob", Device: "d", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"alice"}}
	a, err := persist(w, rec, create)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := persist(w, rec, message(a.Request.Conversation, "bob", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	return a.Request.Conversation
}

// A read position must be a seq that the log has, and its count is the log's count at that
// seq, not the client's.
func TestReadPositionsAreTheLogs(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	group := withGroup(t, w, rec)
	if _, err := persist(w, rec, message("d:alice:bob", "bob", "x")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		c    pim.ConversationID
		seq  pim.Seq
		want pim.Kind
	}{
		{group, 5, pim.KindInvalid},
		{group, 1 << 40, pim.KindInvalid},
		{group, 1<<64 - 1, pim.KindInvalid},
		{group, 0, pim.KindInvalid},
		{"g:none", 1, pim.KindNotMember},
		{"d:bob:carol", 1, pim.KindNotMember},
		{"d:alice:carol", 1, pim.KindInvalid},
		{"d:alice:bob", 2, pim.KindInvalid},
		{"u:bob", 1, pim.KindNotMember},
		{"u:alice", 1, pim.KindInvalid},
	} {
		if _, err := persist(w, rec, readCommand(test.c, test.seq, 1)); pim.KindOf(err) != test.want {
			t.Errorf("read up to %d of %s: %v", test.seq, test.c, err)
		}
	}
	for i, test := range []struct {
		c     pim.ConversationID
		seq   pim.Seq
		sent  uint64
		count uint64
	}{
		{group, 1, 0, 0}, {group, 2, 1 << 40, 1}, {group, 3, 2, 2}, {"d:alice:bob", 1, 0, 1}, {"u:alice", 2, 9, 0},
	} {
		r := readCommand(test.c, test.seq, test.sent)
		want := wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandRead, Subject: string(test.c), Seq: test.seq, Count: test.count, Shown: true})
		for _, duplicate := range []bool{false, true} {
			a, err := persist(w, rec, r)
			if err != nil || a.Seq != pim.Seq(i+1) || a.Duplicate != duplicate {
				t.Fatalf("%+v: answered with %+v, %v", test, a, err)
			}
			if !reflect.DeepEqual(a.Payload, want) {
				t.Errorf("%+v: answered with the payload %x, want %x", test, a.Payload, want)
			}
		}
		entries, err := readLog(s, pim.Own("alice"))
		if err != nil || !reflect.DeepEqual(entries[i].Payload, want) {
			t.Errorf("%+v: the log has %x, %v; want %x", test, entries[i].Payload, err, want)
		}
	}
	// A user who has left reads up to the leave.
	leave := message(group, "alice", "")
	leave.Kind, leave.Members = pim.EntryLeave, []pim.UserID{"alice"}
	for _, r := range []*conv.Request{leave, message(group, "bob", "without alice"), readCommand(group, 5, 0)} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := persist(w, rec, readCommand(group, 6, 4)); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("read beyond the leave: %v", err)
	}
}

// An earlier version accepted a read position beyond the end of the conversation. The next
// position replaces it, in the log, in the setting's cell, and on a device that has read it.
func TestReadPositionsAreMended(t *testing.T) {
	for _, wrong := range []pim.Seq{5, 1 << 40, 1 << 63, 1<<64 - 1} {
		readPositionIsMended(t, wrong, 0)
		readPositionIsMended(t, wrong, 254) // the seqs 255 and 256, as uvarints, sort the other way
	}
}

// readPositionIsMended mends the position wrong in an own log, which before other entries precede.
func readPositionIsMended(t *testing.T, wrong pim.Seq, before int) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	group := withGroup(t, w, rec)
	old := pim.Command{Kind: pim.CommandRead, Subject: string(group), Seq: wrong, Count: 1 << 40}
	var records [][]byte
	for i := range before + 1 {
		cmd := &pim.Command{Kind: pim.CommandPin, Subject: string(group)}
		if i == before {
			cmd = &old
		}
		records = append(records, wire.AppendEntry(nil, &pim.Entry{
			Seq: pim.Seq(i + 1), Kind: pim.EntryCommand, Sender: "alice", Device: "d", ClientID: pim.ClientMessageID{9, byte(i)}, Server: 1,
			Payload: wire.AppendCommand(nil, cmd),
		}))
	}
	cell := inbox.SettingCell(&pim.Setting{Command: old, At: pim.Seq(before + 1)}, 1) // the value as an earlier version made it
	cell.Version = min(uint64(wrong), store.MaxVersion)
	put(t, s, store.Write{
		Log: inbox.Entries(pim.Own("alice")), Records: records,
		Cells: []store.CellWrite{{Partition: inbox.Settings("alice"), Cell: cell}},
	})
	var answers []conv.Answer
	for _, seq := range []pim.Seq{3, 2, 4} { // 2 is less than 3, and has no effect
		a, err := persist(w, rec, readCommand(group, seq, uint64(seq)-1))
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
		w.Close()
		w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	}
	w.Close()
	if !written(t, answers[0]).Replaces || answers[1].Payload != nil || written(t, answers[2]).Replaces {
		t.Errorf("%d: answered with %+v", wrong, answers)
	}
	entries, err := readLog(s, pim.Own("alice"))
	if err != nil {
		t.Fatal(err)
	}
	want := replayed(t, entries)
	if got := settingsOf(t, s, "alice"); !reflect.DeepEqual(got, want) || got[old.Entity()].Seq != 4 || got[old.Entity()].Count != 3 {
		t.Errorf("%d: stored %+v, want %+v", wrong, got, want)
	}
	// A device that has the wrong position gets the one that replaced it, although a
	// later position is in force now.
	page, err := inbox.New(s).Pull(t.Context(), "alice", inbox.PullRequest{Conversation: pim.Own("alice"), From: pim.Seq(before + 2)})
	if err != nil {
		t.Fatal(err)
	}
	device := replayed(t, append(entries[:before+1:before+1], parsed(t, page.Entries)...))
	if !reflect.DeepEqual(device, want) {
		t.Errorf("%d: a device comes to %+v, want %+v", wrong, device, want)
	}
}

// stalled calls meanwhile once, after a log's last seq was read and before it is used.
type stalled struct {
	store.Store
	log       store.Log
	meanwhile func()
}

func (s *stalled) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	if f := s.meanwhile; reads[0].Log == s.log && reads[0].Limit == (store.Limit{}) && f != nil {
		s.meanwhile = nil
		f()
	}
	return err
}

// A read position may name an entry that was written after another command's look at the
// log's last seq. That command must not take the position for one beyond the conversation.
func TestReadPositionsOnlyGrow(t *testing.T) {
	s, rec := &stalled{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	group := withGroup(t, w, rec)
	s.log = inbox.Entries(group)
	s.meanwhile = func() {
		for _, r := range []*conv.Request{message(group, "bob", "x"), readCommand(group, 5, 4)} {
			if _, err := persist(w, rec, r); err != nil {
				t.Error(err)
			}
		}
	}
	if a, err := persist(w, rec, readCommand(group, 3, 2)); err != nil || a.Seq != 2 || a.Payload != nil {
		t.Errorf("answered with %+v, %v", a, err)
	}
	if set := settingsOf(t, s, "alice")["read/"+string(group)]; set.Seq != 5 || set.Replaces {
		t.Errorf("read up to %+v", set)
	}
}
