package gateway

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pim-im/pim/inbox"
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

// A summary on the wire is what inbox made of it.
func TestSummaryOnTheWire(t *testing.T) {
	entry := &wirepb.Entry{Seq: 7, Sender: "bob", Members: []string{"alice"}, Payload: []byte(strings.Repeat("x", 300))}
	data, err := entry.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{true, false} {
		s, err := summary(&inbox.Summary{Conversation: "g:x", Acked: 6, Last: data, Whole: whole, Cut: !whole})
		if err != nil || s.Whole != whole || s.LastCut == whole || !proto.Equal(s.Last, entry) || s.Acked != 6 {
			t.Errorf("whole %v: %v, %v", whole, s, err)
		}
	}
	if s, err := summary(&inbox.Summary{Conversation: "g:x"}); err != nil || s.Last != nil {
		t.Errorf("without a last entry: %v, %v", s, err)
	}
}
