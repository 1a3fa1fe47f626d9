package server_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// answers is an Outlet that passes on the errors of answers.
type answers chan error

func (a answers) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, answer := range answers {
		a <- answer.Err
	}
}

// offlineFor returns a store in which 1,000 conversations have 100 messages each
// for alice.
func offlineFor(t *testing.T) store.Store {
	t.Helper()
	st := storetest.NewMemory()
	done := make(answers, 4096)
	w := conv.New(st, conv.Options{Outlet: done, Shards: 2, Logger: slog.New(slog.DiscardHandler)})
	defer w.Close()
	text := make([]byte, 100)
	for i := range 1000 {
		friend := pim.UserID(fmt.Sprintf("friend-%08d@example.org", i))
		batch := make([]*conv.Request, 100)
		for j := range batch {
			batch[j] = &conv.Request{
				Conversation: pim.Direct("alice", friend), Kind: pim.EntryMessage, Sender: friend, Device: "a-device-of-theirs",
				ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()), Payload: text,
			}
		}
		w.Submit(batch)
		for range batch {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	return st
}

// A new device of a user with 1,000 conversations and 100,000 offline messages shows the list
// after one exchange of less than 200 KiB.
func TestLargeOfflineList(t *testing.T) {
	n := start(t, config(t), server.Options{Store: offlineFor(t)})
	c, err := net.Dial("tcp", n.TCPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	exchange := func(m wire.Message) []byte {
		t.Helper()
		if _, err := c.Write(wire.AppendTCP(nil, wire.Append(nil, m))); err != nil {
			t.Fatal(err)
		}
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	token, err := n.keys.Issue("alice", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	exchange(&wirepb.Hello{Version: wire.Version, Token: token, Device: "raw"})
	answer := exchange(&wirepb.PIMSyncReq{RequestId: 1, Full: true, Limit: 1000, Brief: true})
	_, m, err := wire.Decode(answer)
	list, ok := m.(*wirepb.PIMSyncResp)
	if err != nil || !ok || len(list.Conversations) != 1000 || list.NextAfter != "" || len(answer) >= 200<<10 {
		t.Fatalf("%d bytes, %T, %v; want 1,000 conversations in less than 204,800 bytes", len(answer), m, err)
	}
	t.Logf("the list of 1,000 conversations has %d bytes", len(answer))

	// The SDK is told the twenty newest first, and then all.
	alice := n.connect("alice", "phone", "ws")
	for told := 20; ; {
		switch ev := (<-alice.Events()).(type) {
		case client.EntryEvent:
			if told == 20 {
				t.Fatalf("an entry of %s comes before the list", ev.Entry.Conversation)
			}
		case client.ListEvent:
			list, err := alice.Conversations(t.Context())
			if err != nil || len(ev.Conversations) != told || len(list) < told || list[told-1].Last.Sender == "" {
				t.Fatalf("the event names %d conversations of %d, the store knows %d, %v", len(ev.Conversations), told, len(list), err)
			}
			if told == 1000 {
				return
			}
			told = 1000
		}
	}
}
