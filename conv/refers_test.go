package conv_test

import (
	"context"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A message that was trimmed is not there, for a request and for a load that finds what refers to
// it behind the snapshot.
func TestATrimmedMessageIsNotThere(t *testing.T) {
	const c = pim.ConversationID("d:ann:bob")
	s, rec := storetest.NewMemory(), newRecorder()
	var w *conv.Writers
	begin := func() { w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}) }
	n := byte(0)
	ask := func(kind pim.EntryKind, refers pim.Seq, reaction string) error {
		n++
		r := rec.track(&conv.Request{
			Conversation: c, Kind: kind, Sender: "ann", Device: "d", Refers: refers, Reaction: reaction,
			ClientID: pim.ClientMessageID{6: 0x70, 15: n},
		})
		w.Submit([]*conv.Request{r})
		return rec.wait(r).Err
	}
	trim := func(upTo pim.Seq) {
		if err := store.Commit(context.Background(), s, []*store.Write{{Log: inbox.Entries(c), Trim: upTo}}, store.Durable); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	for range 3 {
		if err := ask(pim.EntryMessage, 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	trim(1)
	if err := ask(pim.EntryReaction, 1, "+"); pim.KindOf(err) != pim.KindNotFound {
		t.Error("a reaction to a trimmed message:", err)
	}
	if err := ask(pim.EntryRecall, 1, ""); pim.KindOf(err) != pim.KindNotFound {
		t.Error("a recall of a trimmed message:", err)
	}
	if err := ask(pim.EntryReaction, 2, "+"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	trim(2)
	begin()
	defer w.Close()
	if err := ask(pim.EntryPin, 3, ""); err != nil {
		t.Error("after a load:", err)
	}
	if err := ask(pim.EntryReaction, 2, "+"); pim.KindOf(err) != pim.KindNotFound {
		t.Error("after a load, a trimmed message:", err)
	}
}
