package engine_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// listsFirst answers the sync of a device, whose own log is behind, with what the list says.
func (s *script) listsFirst(sums ...*wirepb.Summary) {
	s.gets(&wirepb.PIMPong{Behind: true})
	for _, m := range slices.Clone(s.up) {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			s.quiets()
			s.gets(&wirepb.PIMSyncResp{RequestId: m.RequestId, Conversations: sums})
		}
	}
}

// hasShown returns the read positions and marks of chat that the app was shown, in order.
func (s *script) hasShown() (shown []string) {
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok {
			switch set := ev.Setting; set.Kind {
			case pim.CommandRead:
				shown = append(shown, fmt.Sprint("read ", set.Seq))
			case pim.CommandUnread:
				shown = append(shown, fmt.Sprint("marked ", set.InForce(0)))
			}
		}
	}
	return shown
}

// A device whose own log is behind shows what the list says of read positions and marks, and
// nothing older while it pulls the log.
func TestTheListForetellsSettings(t *testing.T) {
	s := newScript(t)
	s.listsFirst(
		&wirepb.Summary{Conversation: string(chat), Newest: 9, Count: 9, Last: bobs(9)[0], Read: 7, ReadCount: 7, ReadAt: 4, MarkedAt: 3},
		&wirepb.Summary{Conversation: string(mine), Newest: 4},
	)
	if len(s.store.settings) != 0 {
		t.Errorf("stored %+v", s.store.settings)
	}
	s.does(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 4, Count: 4}) // read already
	for _, m := range slices.Clone(s.up) {
		pull, ok := m.(*wirepb.PIMPullReq)
		if !ok || pull.Conversation != string(mine) {
			continue
		}
		var entries []*wirepb.Entry
		for i, c := range []pim.Command{
			{Kind: pim.CommandRead, Subject: string(chat), Seq: 5, Count: 5},
			{Kind: pim.CommandUnread, Subject: string(chat)},
			{Kind: pim.CommandUnread, Subject: string(chat), Removed: true, Known: 2},
			{Kind: pim.CommandRead, Subject: string(chat), Seq: 7, Count: 7},
		} {
			entries = append(entries, &wirepb.Entry{
				Seq: uint64(i + 1), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND, Sender: "alice", Device: "laptop",
				ClientMessageId: append(make([]byte, 15), byte(i)), Payload: wire.AppendCommand(nil, &c),
			})
		}
		s.gets(&wirepb.PIMPullResp{RequestId: pull.RequestId, Conversation: string(mine), Entries: entries, From: 1, To: 4, Newest: 4, Done: true})
	}
	shown := s.hasShown()
	for _, was := range shown {
		if was != "read 7" && was != "marked false" {
			t.Errorf("shown: %q", shown)
		}
	}
	if set := s.store.settings["read/"+string(chat)]; set.Seq != 7 || set.At != 4 {
		t.Errorf("stored %+v", set)
	}
}

// What the list says of commands that the device knows is not shown: it may be older.
func TestTheListIsOlderThanTheLog(t *testing.T) {
	s := newScript(t)
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, pim.Command{Kind: pim.CommandUnread, Subject: string(chat)}))
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, pim.Command{Kind: pim.CommandUnread, Subject: string(chat), Removed: true, Known: 1}))
	s.listsFirst(&wirepb.Summary{Conversation: string(chat), Newest: 9, Count: 9, Last: bobs(9)[0], Marked: true, MarkedAt: 1})
	if got := fmt.Sprint(s.hasShown()); got != "[marked true marked false]" {
		t.Errorf("shown: %s", got)
	}
}

// Who marks a conversation after the list told that the mark was taken away has seen that.
func TestMarkedAgain(t *testing.T) {
	s := newScript(t)
	s.listsFirst(
		&wirepb.Summary{Conversation: string(chat), Newest: 9, Count: 9, Last: bobs(9)[0], MarkedAt: 20},
		&wirepb.Summary{Conversation: string(mine), Newest: 20},
	)
	id := s.does(pim.Command{Kind: pim.CommandUnread, Subject: string(chat)})
	cmd, err := wire.DecodeCommand(s.store.outbox[id].Payload)
	if err != nil || cmd.Known != 20 {
		t.Errorf("%+v, %v", cmd, err)
	}
	if got := s.hasShown(); len(got) != 1 || got[0] != "marked true" {
		t.Errorf("shown: %q", got)
	}
}

// A device of an earlier version kept the mark as it keeps every kind that it does not know, by
// its number. This version finds it under that name.
func TestMarkKeptByAnEarlierVersion(t *testing.T) {
	s := newOffline(t)
	s.store.meta.User = "alice"
	s.store.settings["6/"+string(chat)] = pim.Setting{Command: pim.Command{Kind: 6, Subject: string(chat)}, At: 1}
	s.store.conversations[mine] = engine.Conversation{ID: mine, Known: 1, Newest: 1}
	s.starts()
	s.opens(nil)
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, pim.Command{Kind: pim.CommandUnread, Subject: string(chat), Removed: true, Known: 1}))
	if set := s.store.settings["6/"+string(chat)]; len(s.store.settings) != 1 || !set.Removed {
		t.Errorf("kept %+v", s.store.settings)
	}
}

// A read that the server has acknowledged stays read while entries before it in the own log are
// still to come.
func TestAcknowledgedAheadOfTheLog(t *testing.T) {
	s := newScript(t)
	s.gets(push(1, 2, 3, 4, 5, 6, 7, 8, 9))
	id := s.does(reads(9))
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 3})
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(4)))
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, reads(5)))
	for _, was := range s.hasShown() {
		if was != "read 9" {
			t.Errorf("shown: %q", s.hasShown())
		}
	}
	if set := s.store.settings["read/"+string(chat)]; set.Seq != 9 || set.At != 3 {
		t.Errorf("stored %+v", set)
	}
}

// A mark that the server has acknowledged is shown as the log settles it, even if people see the
// same: here another device has marked the conversation again, knowing of a deletion that this
// device did not know of.
func TestAcknowledgedAheadOfADeletion(t *testing.T) {
	s := newScript(t)
	mark := pim.Command{Kind: pim.CommandUnread, Subject: string(chat)}
	id := s.does(mark)
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 3})
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, pim.Command{Kind: pim.CommandUnread, Subject: string(chat), Removed: true}))
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, pim.Command{Kind: pim.CommandUnread, Subject: string(chat), Known: 1}))
	stored := s.store.settings[mark.Entity()]
	var shown pim.Setting
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok {
			shown = ev.Setting
		}
	}
	if stored.At != 2 || !reflect.DeepEqual(shown, stored) {
		t.Errorf("stored %+v, shown %+v", stored, shown)
	}
}
