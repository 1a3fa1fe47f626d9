package conv_test

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// An engine has appended recalls of messages that were edited often, and then failed: neither their cells
// are written, nor are the messages and edits erased. That are more erasures than one write takes. Whoever
// loads the log erases all of them, and goes on.
func TestRecallsThatAreUnsettledEraseMuch(t *testing.T) {
	const messages, edits = 45, 100
	chat := pim.Direct("ann", "bob")
	s, rec := storetest.NewMemory(), newRecorder()
	o := conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}
	w := conv.New(s, o)
	send := func(some ...*conv.Request) {
		t.Helper()
		for i, r := range some {
			some[i] = rec.track(r)
		}
		w.Submit(some)
		for _, r := range some {
			if a := rec.wait(r); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
	for i := range pim.Seq(messages) {
		send(message(chat, "ann", "first"))
		var some []*conv.Request
		for range edits {
			r := message(chat, "ann", "edited")
			r.Kind, r.Refers = pim.EntryEdit, i*(edits+1)+1
			some = append(some, r)
		}
		send(some...)
	}
	w.Close()
	last, _, err := store.LogEnd(t.Context(), s, inbox.Entries(chat))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := readLog(s, chat)
	if err != nil {
		t.Fatal(err)
	}
	e := entries[len(entries)-1]
	appended := &store.Write{Log: inbox.Entries(chat), After: last}
	for i := range pim.Seq(messages) {
		e.Seq, e.Anchor, e.Kind, e.Refers, e.Payload = last+i+1, last+i+1, pim.EntryRecall, i*(edits+1)+1, nil
		e.ClientID = pim.NewClientMessageID(time.Now())
		appended.Records = append(appended.Records, wire.AppendEntry(nil, &e))
	}
	if err := store.Commit(t.Context(), s, []*store.Write{appended}, store.Durable); err != nil || appended.Err != nil {
		t.Fatal(err, appended.Err)
	}
	w = conv.New(s, o)
	defer w.Close()
	send(message(chat, "bob", "hi"))
	if entries, err = readLog(s, chat); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		e := &entries[i]
		if want := e.Kind == pim.EntryEdit || e.Kind == pim.EntryMessage && e.Sender == "ann"; e.Erased != want {
			t.Fatalf("seq %d, a %s, is erased: %t", e.Seq, e.Kind, e.Erased)
		}
	}
	if page, err := inbox.New(s).Pull(t.Context(), "bob", inbox.PullRequest{Conversation: chat, From: 1, To: 1}); err != nil || len(page.Folds) != 1 {
		t.Errorf("the fold of a recalled message: %+v, %v", page.Folds, err)
	}
}
