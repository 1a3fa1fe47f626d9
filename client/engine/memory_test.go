package engine

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
)

// Messages that are queued without a connection, and leave the outbox again, leave
// nothing behind in memory.
func TestOfflineOutboxForgets(t *testing.T) {
	e := New(Config{User: "alice", Device: "phone", Servers: []string{"ws://nowhere"}, Random: func() float64 { return 0.5 }},
		Snapshot{Conversations: []Conversation{{ID: "d:alice:bob", Known: 100, Newest: 100, Count: 100}}})
	step := func(in Input) {
		t.Helper()
		if err := e.Step(Time{}, in); err != nil {
			t.Fatal(err)
		}
		e.Take()
	}
	for i := range 100 {
		var id pim.ClientMessageID
		copy(id[:], fmt.Sprint("command", i))
		step(Do{ID: id, Command: pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: pim.Seq(i + 1)}})
		copy(id[:], fmt.Sprint("message", i))
		step(Send{Message: Outgoing{ID: id, Conversation: "d:alice:bob", Kind: pim.EntryMessage, Payload: []byte("hi")}})
		step(Discard{ID: id})
	}
	if o := &e.outbox; len(o.byID) != 1 || len(o.lanes) != 1 || len(o.ready) != 1 {
		t.Errorf("one command waits, and there are %d messages, %d lanes, %d of them ready", len(o.byID), len(o.lanes), len(o.ready))
	}
}
