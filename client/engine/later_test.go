package engine_test

import (
	"bytes"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A command of a kind that this version does not know is kept for the version that
// will, by the rules that all kinds have; the app is not told. A command of a known kind
// is in force even if it holds more than this version allows.
func TestCommandsOfALaterVersion(t *testing.T) {
	s := newScript(t)
	folder := func(name string) pim.Command {
		return pim.Command{Kind: 60, Subject: "work", Value: []byte(name), Unknown: []byte{0x98, 0x75, 7}}
	}
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, folder("Work")))
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, folder("Office")))
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok {
			t.Errorf("told of %q", ev.Entity)
		}
	}
	if set := s.store.settings["60/work"]; string(set.Value) != "Office" || set.At != 2 || !bytes.Equal(set.Unknown, folder("").Unknown) {
		t.Errorf("stored %+v", set)
	}
	s.gets(logged(3, "laptop", pim.ClientMessageID{3}, pim.Command{Kind: pim.CommandMute, Subject: string(chat), Value: []byte("softly")}))
	s.shows("mute/d:alice:bob softly", false)
	s.does(rename("bob", "Bob"))
	s.commanded("contact/bob Bob")
}

// An earlier version has stored a no-receipts command, of whose kind it knew nothing. It is in force
// for this version.
func TestStoreOfAnEarlierVersion(t *testing.T) {
	s := newOffline(t)
	s.store.meta.User = "alice"
	s.store.settings["7/alice"] = pim.Setting{Command: pim.Command{Kind: 7, Subject: "alice"}, At: 5}
	s.starts()
	s.opens(nil)
	s.does(pim.Command{Kind: pim.CommandNoReceipts, Subject: "alice", Removed: true})
	if len(s.store.settings) != 1 {
		t.Errorf("stored %+v", s.store.settings)
	}
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok && ev.Entity != "7/alice" {
			t.Errorf("told of %q", ev.Entity)
		}
	}
}

// A later version has put a command into the outbox, and a setting into the store. The
// command is sent, and both are kept: the server may know them.
func TestStoreOfALaterVersion(t *testing.T) {
	s := newOffline(t)
	folder := pim.Command{Kind: 60, Subject: "work", Value: []byte("Work"), Unknown: []byte{0x98, 0x75, 7}}
	s.store.meta.User = "alice"
	s.store.settings["folder/home"] = pim.Setting{Command: pim.Command{Kind: 60, Subject: "home"}, At: 1}
	s.store.outbox[pim.ClientMessageID{1}] = engine.Outgoing{
		ID: pim.ClientMessageID{1}, Number: 1, Conversation: mine, Kind: pim.EntryCommand, Payload: wire.AppendCommand(nil, &folder),
	}
	s.starts()
	s.opens(nil)
	var sent *wirepb.PIMSendReq
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSendReq); ok {
			sent = m
		}
	}
	if sent == nil || !bytes.Equal(sent.Payload, wire.AppendCommand(nil, &folder)) {
		t.Fatalf("transmitted %v", sent)
	}
	s.gets(&wirepb.PIMSendAck{ClientMessageId: sent.ClientMessageId, Conversation: string(mine), Seq: 1})
	if set := s.store.settings["60/work"]; set.At != 1 || string(set.Value) != "Work" {
		t.Errorf("stored %+v", set)
	}
	if set := s.store.settings["folder/home"]; set.At != 1 {
		t.Errorf("what was stored is %+v", set)
	}
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok {
			t.Errorf("told of %q", ev.Entity)
		}
	}
}
