package sim

import (
	"slices"
	"time"

	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// playPushedAndTrimmed plays the story "pushed-and-trimmed" on s.
func playPushedAndTrimmed(s *stage) {
	s.at(2*second, func() { s.Server.DropPush = func() bool { return true } })
	s.sends(s.bob, 3*second, second, "one", "two")
	s.at(5*second, func() {
		slow := &wirepb.PIMPush{Conversation: string(chat)}
		for i, text := range []string{"one", "two"} {
			id := s.id()
			slow.Entries = append(slow.Entries, &wirepb.Entry{
				Seq: uint64(i) + 1, Count: uint64(i) + 1, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "bob", Device: "phone",
				ClientMessageId: id[:], LocalMs: int64(epoch), ServerMs: int64(epoch), Payload: []byte(text),
			})
		}
		s.Server.DropPush = nil
		s.World.Trim(chat, 2)
		s.alice.breaks.Answer = func(d *Device, m wire.Message) wire.Message {
			if r, ok := m.(*wirepb.PIMSyncResp); ok && len(r.Conversations) > 0 {
				d.breaks.Answer = nil
				s.At(s.now+time.Millisecond, func() { d.Step(engine.Frame{Attempt: d.using, Message: slow}) })
			}
			return m
		}
		s.alice.Cut()
	})
	s.sends(s.bob, 20*second, second, "three")
	s.until(300 * second)
	if got := texts(s.alice); !slices.Equal(got, []string{"three"}) {
		s.t.Errorf("alice shows %q", got)
	}
}
