package gateway

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/proto"
)

// A text that is cut ends with a whole character: a preview in a list, and the reason of a
// close, which a WebSocket client refuses otherwise (RFC 6455 section 5.5.1).
func TestWhatIsCutEndsWithACharacter(t *testing.T) {
	data, err := (&wirepb.Entry{Payload: []byte(strings.Repeat("王", 100))}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	s, err := summary(&inbox.Summary{Last: data})
	if want := strings.Repeat("王", lastEntryCut/3); err != nil || !s.LastCut || string(s.Last.Payload) != want {
		t.Errorf("%v, %q", err, s.GetLast().GetPayload())
	}
	frame := appendServerClose(nil, 4000, "x"+strings.Repeat("王", 100))
	if reason := frame[4:]; int(frame[1]) != 2+len(reason) || !utf8.Valid(reason) || len(reason) < 118 {
		t.Errorf("reason %q", reason)
	}
}

// A summary that is whole keeps all of its last entry; another one leaves out the members
// and the end of the payload.
func TestWholeSummaryKeepsAll(t *testing.T) {
	entry := &wirepb.Entry{Seq: 7, Sender: "bob", Members: []string{"alice"}, Payload: []byte(strings.Repeat("x", 300))}
	data, err := entry.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{true, false} {
		s, err := summary(&inbox.Summary{Last: data, Whole: whole})
		if err != nil || s.Whole != whole || s.LastCut == whole || proto.Equal(s.Last, entry) != whole || len(s.Last.Members) > 0 != whole {
			t.Errorf("whole %v: %v, %v", whole, s, err)
		}
	}
}
