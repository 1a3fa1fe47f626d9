package engine

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// Positions move, other frames go out, time passes, conversations get into doubt. Each
// position reaches the server within ackEvery, in frames that are not closer together than
// that unless they have to be, and no frame says what the one before has said.
func TestAcks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fx effects
		fx.now.Mono = time.Hour
		a := acks{fx: &fx}
		all := make([]*conversation, rapid.IntRange(1, 5).Draw(t, "conversations"))
		for i := range all {
			all[i] = &conversation{id: pim.ConversationID(string(rune('a' + i)))}
		}
		server := make(map[pim.ConversationID]pim.Seq)
		news := make(map[pim.ConversationID]time.Duration) // since when the server does not know
		var serial uint64
		var last time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			force, others := false, false
			c := rapid.SampledFrom(all).Draw(t, "conversation")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				c.known++
				if a.later(c); c.doubt == nil {
					if _, ok := news[c.id]; !ok {
						news[c.id] = fx.now.Mono
					}
				}
			case 2:
				fx.write(&wirepb.PIMPing{})
				others = true
			case 3:
				force = true
			case 4:
				if c.doubt == nil {
					c.doubt = new(check)
					a.remove(c)
					delete(news, c.id)
				} else {
					c.doubt = nil
				}
			case 5:
				wait := time.Duration(rapid.IntRange(1, 300).Draw(t, "ms")) * time.Millisecond
				fx.now.Mono = min(fx.now.Mono+wait, max(a.deadline(), fx.now.Mono))
			}
			due := a.deadline()
			a.send(force)
			out := fx.take()
			for _, m := range out.Frames {
				ack, ok := m.(*wirepb.PIMPushAck)
				if !ok {
					continue
				}
				if serial++; ack.Serial != serial || out.Store.Meta == nil || out.Store.Meta.AckSerial != serial {
					t.Fatalf("serial %d follows %d; stored: %+v", ack.Serial, serial-1, out.Store.Meta)
				}
				for _, p := range ack.Acks {
					id := pim.ConversationID(p.Conversation)
					if pim.Seq(p.Seq) <= server[id] {
						t.Fatalf("%s is acknowledged up to %d, and was up to %d", id, p.Seq, server[id])
					}
					server[id] = pim.Seq(p.Seq)
					delete(news, id)
				}
				if !force && fx.now.Mono < due && (!others || fx.now.Mono-last < ackEvery) {
					t.Fatalf("a frame after %v, with nothing that is due", fx.now.Mono-last)
				}
				last = fx.now.Mono
			}
			for id, since := range news {
				if fx.now.Mono-since >= ackEvery {
					t.Fatalf("the server has not heard of %s for %v", id, fx.now.Mono-since)
				}
			}
		}
	})
}

// A thousand conversations go into one frame, and no more.
func TestManyAcks(t *testing.T) {
	var fx effects
	a := acks{fx: &fx}
	for range 2*ackFrame + 1 {
		a.later(&conversation{known: 1})
	}
	a.send(true)
	out := fx.take()
	if len(out.Frames) != 3 || out.Store.Meta.AckSerial != 3 || a.deadline() != never {
		t.Errorf("%d frames, stored: %+v, more at %v", len(out.Frames), out.Store.Meta, a.deadline())
	}
	for _, watches := range []bool{false, true} {
		a := acks{fx: &fx, off: watches}
		a.later(&conversation{known: 1})
		if got := a.deadline() == never; got != watches {
			t.Errorf("watches: %v, acknowledges: %v", watches, !got)
		}
	}
}
