package engine_test

import (
	"testing"

	"github.com/pim-im/pim/wire/wirepb"
)

// summary answers the sync that a PIMPong of "behind" asks for with one conversation.
func (s *script) summary(sum *wirepb.Summary) {
	s.t.Helper()
	s.gets(&wirepb.PIMPong{Behind: true})
	sum.Conversation = string(chat)
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			s.up = nil
			s.gets(&wirepb.PIMSyncResp{RequestId: m.RequestId, Conversations: []*wirepb.Summary{sum}})
			return
		}
	}
	s.t.Fatal("no sync")
}

// A summary that shows the whole of the one entry that is missing settles it: it is
// delivered and acknowledged as if it had been pushed, and nothing is pulled.
func TestWholeSummarySettles(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.gets(push(1))
	s.summary(&wirepb.Summary{Newest: 2, Acked: 1, Count: 2, Last: bobs(2)[0], Whole: true})
	s.sees("1", "2")
	s.transmits()
	if c := s.store.conversations[chat]; c.Known != 2 || c.Newest != 2 || c.Count != 2 || !s.engine.Synced() {
		t.Errorf("after it: %+v, synced %v", c, s.engine.Synced())
	}
	s.w.passes(0)
	s.summary(&wirepb.Summary{Newest: 2, Acked: 1, Count: 2, Last: bobs(2)[0], Whole: true}) // once more
	s.transmits()
	s.sees()
	s.lives(1e9)
	s.transmits("ack 3: d:alice:bob 2")
}

// Where more is missing than the server knows, the entry of a whole Summary waits for the
// rest.
func TestWholeSummaryAboveAGap(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.summary(&wirepb.Summary{Newest: 4, Acked: 3, Count: 4, Last: bobs(4)[0], Whole: true})
	s.sees()
	request := s.lastPull()
	s.transmits("pull 1..3")
	s.gets(&wirepb.PIMPullResp{RequestId: request, Entries: bobs(1, 2, 3), From: 1, To: 3, Newest: 4, Done: true})
	s.sees("1", "2", "3", "4")
	if !s.engine.Synced() {
		t.Error("it is not synced")
	}
}

// Where a Summary is not whole, or its entry is not the one it names, the device pulls.
func TestSummaryThatDoesNotSettle(t *testing.T) {
	other, noID := bobs(1)[0], bobs(1)[0]
	other.Seq, noID.ClientMessageId = 2, nil
	for name, sum := range map[string]*wirepb.Summary{
		"an earlier server": {Newest: 1, Count: 1, Last: bobs(1)[0]},
		"no entry":          {Newest: 1, Count: 1, Whole: true},
		"another seq":       {Newest: 1, Count: 1, Whole: true, Last: other},
		"no ID":             {Newest: 1, Count: 1, Whole: true, Last: noID},
	} {
		s := newScript(t)
		s.quiets()
		s.summary(sum)
		s.sees()
		if len(s.up) == 0 {
			t.Fatalf("%s: nothing is pulled", name)
		}
		s.transmits("pull 1..0")
	}
}

// While a conversation is in doubt, the entry of a whole Summary is not taken for the
// next one.
func TestWholeSummaryInDoubt(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.gets(push(1))
	s.gets(push(2))
	s.w.passes(1e9)
	s.summary(&wirepb.Summary{Newest: 1, Count: 1, Last: bobs(1)[0], Whole: true}) // the store went back
	s.quiets()
	s.summary(&wirepb.Summary{Newest: 3, Acked: 2, Count: 3, Last: bobs(3)[0], Whole: true})
	s.sees("1", "2")
}
