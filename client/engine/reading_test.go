package engine_test

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

const readChat = "read/" + string(chat)

// looksAt opens chat with the app in front.
func (s *script) looksAt() {
	s.t.Helper()
	s.must(engine.Foreground{On: true})
	s.must(engine.Reading{Conversation: chat, On: true})
}

// acks answers the commands that wait for an answer.
func (s *script) acks() {
	for id, m := range s.store.outbox {
		if p, ok := s.engine.Message(id); ok && p.State == engine.InFlight {
			seq := uint64(s.store.conversations[m.Conversation].Known) + 1
			s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(m.Conversation), Seq: seq})
		}
	}
}

// What comes in a conversation that a person reads is read at once; the server is told once a
// second, and the last time when nobody reads it any more.
func TestReading(t *testing.T) {
	s := newScript(t)
	s.gets(push(1, 2))
	s.must(engine.Reading{Conversation: chat, On: true})
	s.commanded() // the app is not in front
	s.must(engine.Foreground{On: true})
	s.shows(readChat+" 2", true)
	s.commanded(readChat + " 2")
	s.acks()
	for seq := uint64(3); seq <= 9; seq++ {
		s.gets(push(seq))
		s.shows(tell(reads(pim.Seq(seq))), true)
	}
	s.commanded()
	if n := len(s.store.outbox); n != 1 {
		t.Errorf("%d commands are stored", n)
	}
	s.w.passes(time.Second)
	s.commanded(readChat + " 9")
	s.gets(push(10, 11)) // while that one waits for its answer
	s.gets(push(12))
	s.acks()
	s.commanded()
	s.must(engine.Foreground{On: false})
	s.commanded(readChat + " 12")
	s.acks()
	s.gets(push(13))
	s.w.passes(2 * time.Second)
	s.commanded()
	s.must(engine.Foreground{On: true})
	s.commanded(readChat + " 13")
	s.acks()
	s.gets(push(14))
	s.must(engine.Reading{Conversation: chat})
	s.commanded(readChat + " 14")
	s.acks()
	s.gets(push(15))
	s.w.passes(2 * time.Second)
	s.commanded()
}

// Without a connection the read is stored with the entry's place, and survives the process.
func TestReadingOffline(t *testing.T) {
	s := newScript(t)
	s.gets(push(1, 2))
	s.must(engine.Online{On: false})
	s.quiets()
	s.looksAt()
	s.shows(readChat+" 2", true)
	s.dies()
	s.starts()
	s.shows(readChat+" 2", true)
	s.must(engine.Online{On: true})
	s.opens(nil)
	s.commanded(readChat + " 2")
}

// An own message reads what is above without a command, and so does what does not count.
func TestReadingCostsNothingForWhatIsRead(t *testing.T) {
	s := newScript(t)
	s.looksAt()
	s.gets(alicesAt(1, "laptop"))
	s.gets(&wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{{
		Seq: 2, Count: 1, Kind: wirepb.EntryKind_ENTRY_KIND_REACTION, Sender: "bob", Device: "phone",
		ClientMessageId: make([]byte, 16), Refers: 1, Reaction: "ok",
	}}})
	s.w.passes(2 * time.Second)
	s.commanded()
}

// What the device has only heard of is not read before it has come.
func TestReadingWhatHasNotCome(t *testing.T) {
	s := newScript(t)
	s.looksAt()
	s.gets(push(1))
	s.commanded(readChat + " 1")
	s.acks()
	s.gets(push(4))
	s.w.passes(2 * time.Second)
	s.commanded()
	s.gets(push(2, 3))
	s.commanded(readChat + " 4")
}

// A read that the server refuses is not given again before something new comes.
func TestReadingRefused(t *testing.T) {
	s := newScript(t)
	s.gets(push(1))
	s.looksAt()
	s.commanded(readChat + " 1")
	for id := range s.store.outbox {
		s.gets(&wirepb.PIMError{ClientMessageId: id[:], Kind: wirepb.ErrorKind_ERROR_KIND_INVALID})
	}
	s.w.passes(2 * time.Second)
	s.commanded()
	s.gets(push(2))
	s.commanded(readChat + " 2")
}

// Opening a conversation takes the mark as unread away; a mark that comes later stays.
func TestReadingUnmarks(t *testing.T) {
	s := newScript(t)
	s.does(pim.Command{Kind: pim.CommandUnread, Subject: string(chat)})
	s.quiets()
	s.acks()
	s.looksAt()
	s.commanded("6/" + string(chat) + " removed")
	s.acks()
	s.does(pim.Command{Kind: pim.CommandUnread, Subject: string(chat)})
	s.gets(push(1))
	s.commanded("6/"+string(chat), readChat+" 1")
}

func TestBadReading(t *testing.T) {
	s := newScript(t)
	s.refuses(pim.KindInvalid, engine.Reading{Conversation: "x", On: true})
	s = newScript(t, func(p *phone) { p.watch = true })
	s.refuses(pim.KindInvalid, engine.Reading{Conversation: chat, On: true})
}
