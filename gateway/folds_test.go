package gateway

import (
	"bytes"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Each frame of a page has the folds of its own entries, however large they are, and no frame is too
// large for the client. A pull of changes has folds only.
func TestFoldsComeWithTheirEntries(t *testing.T) {
	for _, changes := range []bool{false, true} {
		x := newLab(t, nil)
		x.page = inbox.Page{From: 1, To: 9, Newest: 20}
		for seq := pim.Seq(1); seq <= 9; seq++ {
			e := pim.Entry{Seq: seq, Anchor: seq, Payload: make([]byte, pim.MaxPayload)}
			if !changes {
				x.page.Entries = append(x.page.Entries, inbox.Encoded{Seq: seq, Data: wire.AppendEntry(nil, &e)})
			}
			if seq%2 == 0 {
				f := pim.Fold{Target: seq, Upto: 20, Edit: pim.Edit{Seq: 20, By: "x", Payload: bytes.Repeat([]byte{byte(seq)}, pim.MaxPayload)}}
				x.page.Folds = append(x.page.Folds, inbox.Encoded{Seq: seq, Data: wire.AppendFold(nil, &f)})
			}
		}
		p := x.connect(false, "alice", "phone")
		p.send(&wirepb.PIMPullReq{RequestId: 1, Conversation: "d:alice:x", Changes: changes})
		next, entries, folds := uint64(1), 0, 0
		for done := false; !done; {
			m := expect[*wirepb.PIMPullResp](p)
			if m.From != next {
				t.Fatalf("a frame from %d, want %d", m.From, next)
			}
			for _, f := range m.Folds {
				if folds++; f.Target < m.From || f.Target > m.To || f.Edit.Payload[0] != byte(f.Target) {
					t.Errorf("the fold of seq %d in a frame for %d–%d", f.Target, m.From, m.To)
				}
			}
			entries += len(m.Entries)
			next, done = m.To+1, m.Done
		}
		if want := len(x.page.Entries); next != 10 || entries != want || folds != 4 {
			t.Errorf("settled up to %d, %d entries of %d, %d folds of 4", next-1, entries, want, folds)
		}
	}
}

func TestWhatASendRefersToReachesTheWriter(t *testing.T) {
	x := newLab(t, nil)
	got := make(chan *conv.Request, 1)
	x.submit = func(requests []*conv.Request) {
		for _, r := range requests {
			got <- r
		}
	}
	p := x.connect(false, "alice", "phone")
	m := sendReq(1, "")
	m.Kind, m.Refers, m.Reaction, m.Removed = wirepb.EntryKind_ENTRY_KIND_REACTION, 7, "+", true
	p.send(m)
	if r := <-got; r.Kind != pim.EntryReaction || r.Refers != 7 || r.Reaction != "+" || !r.Removed {
		t.Errorf("%+v", r)
	}
}
