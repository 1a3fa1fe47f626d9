package engine_test

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// readTo checks the seqs of the ReadEvents of chat since the last call.
func (s *script) readTo(want ...pim.Seq) {
	s.t.Helper()
	var got []pim.Seq
	for _, ev := range s.events {
		if ev, ok := ev.(engine.ReadEvent); ok && ev.Conversation == chat {
			got = append(got, ev.Seq)
		}
	}
	s.events = nil
	if !slices.Equal(got, want) {
		s.t.Errorf("told of reads up to %v, want %v", got, want)
	}
}

func alicesAt(seq uint64, device string) *wirepb.PIMPush {
	e := bobs(seq)[0]
	e.Sender, e.Device = "alice", device
	return &wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{e}}
}

// What another device of the user has read is told once, however this one hears of it.
func TestReadElsewhere(t *testing.T) {
	t.Run("by the own log", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(2)))
		s.readTo(2)
		s.gets(logged(2, "laptop", pim.ClientMessageID{2}, reads(2)))
		s.gets(logged(3, "laptop", pim.ClientMessageID{3}, reads(1)))
		s.readTo()
		s.gets(logged(4, "laptop", pim.ClientMessageID{4}, reads(3)))
		s.readTo(3)
	})
	t.Run("by this device itself", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		id := s.does(reads(3))
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(2))) // less than what waits here
		s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 2})
		s.gets(logged(3, "laptop", pim.ClientMessageID{2}, reads(3)))
		s.readTo()
	})
	t.Run("by a message", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2))
		s.gets(alicesAt(3, "laptop"))
		s.readTo(3)
		s.gets(alicesAt(4, "phone"))
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(3)))
		s.readTo()
	})
	t.Run("by a message ahead of a gap", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1))
		s.gets(alicesAt(3, "laptop"))
		s.readTo(3)
		s.gets(push(2))
		s.readTo()
	})
	t.Run("by an answer", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2))
		id := s.sends(chat, "hi")
		s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(chat), Seq: 3, Count: 3})
		s.readTo()
	})
	t.Run("by the list, and then by the log", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		s.listsFirst(&wirepb.Summary{Conversation: string(chat), Newest: 3, Count: 3, Last: bobs(3)[0], Read: 2, ReadCount: 2, ReadAt: 1, Own: 1, OwnCount: 1})
		s.readTo(2)
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(2)))
		s.readTo()
	})
	t.Run("by the list, which means the message on its way", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2))
		s.sends(chat, "hi")
		s.listsFirst(&wirepb.Summary{Conversation: string(chat), Newest: 3, Count: 3, Last: bobs(3)[0], Own: 3, OwnCount: 3})
		s.readTo()
	})
	t.Run("by the list, which does not mean the retain on its way", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2))
		s.must(engine.Send{Message: engine.Outgoing{ID: s.w.id(), Conversation: chat, Kind: pim.EntryRetain}})
		s.listsFirst(&wirepb.Summary{Conversation: string(chat), Newest: 3, Count: 3, Last: bobs(3)[0], Own: 3, OwnCount: 3})
		s.readTo(3)
	})
	t.Run("of a conversation that is new", func(t *testing.T) {
		s := newScript(t)
		s.listsFirst(&wirepb.Summary{Conversation: string(chat), Newest: 3, Count: 3, Last: bobs(3)[0], Read: 2, ReadCount: 2, ReadAt: 1, Own: 1, OwnCount: 1})
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(2)))
		s.readTo()
	})
	t.Run("before a restart", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(2)))
		s.dies()
		s.starts()
		s.opens(nil)
		s.gets(logged(2, "laptop", pim.ClientMessageID{2}, reads(2)))
		s.readTo()
		s.gets(logged(3, "laptop", pim.ClientMessageID{3}, reads(3)))
		s.readTo(3)
	})
	t.Run("up to where another version's position was not valid", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(1000)))
		valid := reads(2)
		valid.Replaces = true
		s.gets(logged(2, "laptop", pim.ClientMessageID{2}, valid))
		s.events = nil
		s.gets(logged(3, "laptop", pim.ClientMessageID{3}, reads(3)))
		s.readTo(3)
	})
}

// What was written before the user joined is not for the user, also when that is a second time.
func TestReadByJoining(t *testing.T) {
	s := newScript(t)
	change := func(seq uint64, kind wirepb.EntryKind) {
		s.gets(&wirepb.PIMPush{Conversation: "g:1", Entries: []*wirepb.Entry{{
			Seq: seq, Kind: kind, Sender: "bob", Members: []string{"alice"}, ClientMessageId: append(make([]byte, 15), byte(seq)),
		}}})
	}
	change(1, wirepb.EntryKind_ENTRY_KIND_JOIN)
	change(2, wirepb.EntryKind_ENTRY_KIND_LEAVE)
	for _, ev := range s.events {
		if ev, ok := ev.(engine.ReadEvent); ok {
			t.Errorf("told of %+v of a group that was new", ev)
		}
	}
	s.events = nil
	change(3, wirepb.EntryKind_ENTRY_KIND_JOIN)
	if !slices.Contains(s.events, engine.Event(engine.ReadEvent{Conversation: "g:1", Seq: 3})) {
		t.Errorf("not told of the joining: %v", s.events)
	}
}
