package conv_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// slowLogs holds up reads of entries of one user's conversations.
type slowLogs struct {
	store.Store
	user string
	hold chan struct{}
}

func (s *slowLogs) Read(ctx context.Context, reads []store.Read) error {
	if strings.Contains(string(reads[0].Log), s.user) && reads[0].Limit != (store.Limit{}) {
		<-s.hold
	}
	return s.Store.Read(ctx, reads)
}

// Messages of one user need dear look-ups. So many wait, the others are refused, and nobody
// else waits, not even who has to be loaded first.
func TestOneUsersLookUpsAreBounded(t *testing.T) {
	const messages, most = 300, 4 + 256
	st, rec := &slowLogs{Store: storetest.NewMemory(), user: "eve", hold: make(chan struct{})}, newRecorder()
	w := conv.New(st.Store, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	if _, err := persist(w, rec, message(pim.Direct("alice", "bob"), "alice", "one")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	hold := st.hold
	st.hold = make(chan struct{})
	close(st.hold)
	w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	var sent []*conv.Request
	for i := range messages {
		r := message(pim.Direct("eve", pim.UserID(fmt.Sprint("u", i))), "eve", "one")
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.hold = hold
	again := make([]*conv.Request, messages) // the answer to each is in a log
	for i, r := range sent {
		again[i] = rec.track(&conv.Request{
			Conversation: r.Conversation, Kind: r.Kind, Sender: r.Sender, Device: r.Device, ClientID: r.ClientID, Local: r.Local, Payload: r.Payload,
		})
	}
	w.Submit(again)
	if _, err := persist(w, rec, message(pim.Direct("alice", "bob"), "bob", "two")); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	close(hold)
	answered := 0
	for i, r := range again {
		switch a := rec.wait(r); {
		case a.Err == nil && a.Duplicate && a.Seq == 1:
			answered++
		case pim.KindOf(a.Err) != pim.KindOverloaded:
			t.Fatalf("message %d is answered with %+v", i, a)
		}
	}
	if answered != most {
		t.Errorf("%d of %d requests were taken, want %d", answered, messages, most)
	}
}
