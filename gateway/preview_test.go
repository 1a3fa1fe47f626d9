package gateway

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/proto"
)

// The reason of a close is cut behind a whole character: a WebSocket client refuses it otherwise
// (RFC 6455 section 5.5.1).
func TestReasonEndsWithACharacter(t *testing.T) {
	frame := appendServerClose(nil, 4000, "x"+strings.Repeat("王", 100))
	if reason := frame[4:]; int(frame[1]) != 2+len(reason) || !utf8.Valid(reason) || len(reason) < 118 {
		t.Errorf("reason %q", reason)
	}
}

// A page of a sync on the wire is what inbox made of it.
func TestSyncOnTheWire(t *testing.T) {
	const most = 1<<63 - 1
	entry := &wirepb.Entry{Seq: 7, Sender: "bob", Members: []string{"alice"}, Payload: []byte(strings.Repeat("x", 300))}
	data, err := entry.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	page := &inbox.SyncPage{Next: "g:y", Summaries: []inbox.Summary{
		{Conversation: "g:w", Line: inbox.Line{Newest: 7, Count: 6}, Acked: 5, Last: data, Whole: true},
		{Conversation: "g:x", Line: inbox.Line{Newest: 7, Left: true}, Last: data, Cut: true},
		{
			Conversation: "g:y",
			Line:         inbox.Line{Newest: most, Count: most, Left: true, Mark: inbox.Mark{Own: most, OwnCount: most}, All: most, MentionsOf: inbox.MentionsOf{Named: most, OwnAll: most}}, Acked: most, Cut: true, Whole: true,
			Told: inbox.Told{Read: most, ReadCount: most, ReadAt: most, Marked: true, MarkedAt: most, ReadNamed: most, ReadAll: most},
		},
	}}
	want := &wirepb.PIMSyncResp{RequestId: 9, NextAfter: "g:y", Conversations: []*wirepb.Summary{
		{Conversation: "g:w", Newest: 7, Count: 6, Acked: 5, Last: entry, Whole: true},
		{Conversation: "g:x", Newest: 7, Left: true, Last: entry, LastCut: true},
		{
			Conversation: "g:y", Newest: most, Count: most, Left: true, Own: most, OwnCount: most, Acked: most, LastCut: true, Whole: true,
			Read: most, ReadCount: most, ReadAt: most, Marked: true, MarkedAt: most,
			Named: most, OwnAll: most, AllCount: most, ReadNamed: most, ReadAll: most,
		},
	}}
	b := appendSync(nil, &wirepb.PIMSyncResp{RequestId: 9, NextAfter: "g:y"}, page.Summaries)
	_, got, err := wire.Decode(b)
	if err != nil || !proto.Equal(got.(*wirepb.PIMSyncResp), want) {
		t.Errorf("%v, %v", got, err)
	}
	if len(b) > page.Size() {
		t.Errorf("%d bytes, in place of %d at most", len(b), page.Size())
	}
}

// A frame that was made outside the lock gets the same header as any other, and no byte moves.
func TestHeaderBeforeAPage(t *testing.T) {
	for _, f := range []framing{lengths, webSocket} {
		for _, n := range []int{1, 125, 126, 65535, 65536, pim.MaxFrame} {
			b := append(newPage(n), bytes.Repeat([]byte{7}, n)...)
			if got, want := f.fillHeader(b), append(f.appendHeader(nil, n), b[maxHeader:]...); !bytes.Equal(got, want) {
				t.Errorf("framing %d, %d bytes: begins with %x, want %x", f, n, got[:min(len(got), 20)], want[:min(len(want), 20)])
			}
		}
	}
}
