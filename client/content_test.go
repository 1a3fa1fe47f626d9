package client_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Bob answers in a thread, and Alice answers him: what each message says comes to the
// other, and views and lists show its text.
func TestReplies(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	lunch := alice.sent(alice.Conversation(chat).SendText(t.Context(), "Lunch at noon?"))
	view := bob.views(chat, 10)
	comesToShow(t, view, "Lunch at noon?")
	yes := &content.Content{Text: "Yes", Reply: content.ReplyTo(&view.Items()[0].Entry), Thread: lunch.Seq}
	bob.sent(bob.Conversation(chat).SendContent(t.Context(), yes))

	view = alice.views(chat, 10)
	comesToShow(t, view, "Lunch at noon?", "Yes")
	items := view.Items()
	got, err := items[1].Content()
	if want := (&content.Reply{Seq: lunch.Seq, Sender: "alice", Excerpt: "Lunch at noon?"}); err != nil || got.Thread != lunch.Seq || !reflect.DeepEqual(got.Reply, want) {
		t.Errorf("it says %+v, %v", got, err)
	}
	alice.sent(alice.Conversation(chat).Reply(t.Context(), &items[1].Entry, "See you"))
	comesToShow(t, view, "Lunch at noon?", "Yes", "See you")
	items = view.Items()
	if got, err = items[2].Content(); err != nil || got.Thread != lunch.Seq || got.Reply == nil || got.Reply.Excerpt != "Yes" {
		t.Errorf("it says %+v, %v", got, err)
	}
	info, err := alice.Conversation(chat).Info(t.Context())
	if err != nil || info.Text() != "See you" {
		t.Errorf("the list shows %q, %v", info.Text(), err)
	}

	for _, refused := range []func(ctx context.Context) (*client.Sending, error){
		func(ctx context.Context) (*client.Sending, error) {
			return alice.Conversation("x").SendContent(ctx, yes)
		},
		func(ctx context.Context) (*client.Sending, error) {
			return alice.Conversation(chat).Reply(ctx, &pim.Entry{Sender: "bob"}, "to a message without seq")
		},
		func(ctx context.Context) (*client.Sending, error) {
			return alice.Conversation(chat).Reply(ctx, &items[0].Entry, "")
		},
		func(ctx context.Context) (*client.Sending, error) { return alice.Conversation(chat).SendText(ctx, "") },
	} {
		if _, err := refused(t.Context()); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("sent with %v", err)
		}
	}
}

// A server's list has the first 64 bytes of a payload: its text begins there.
func TestTextOfAnEnvelopeThatIsCut(t *testing.T) {
	for text, want := range map[string]string{
		"Yes":                     "Yes",
		strings.Repeat("王", 1000): strings.Repeat("王", 19),
	} {
		say := content.Content{Text: text, Reply: &content.Reply{Seq: 1, Sender: "bob", Excerpt: strings.Repeat("x", 200)}}
		payload, err := say.Encode()
		if err != nil {
			t.Fatal(err)
		}
		brief, cut := wire.BriefEntry(&wirepb.Entry{Payload: payload})
		info := client.Info{Last: pim.Entry{Payload: brief.Payload}, LastCut: cut}
		if got := info.Text(); !cut || got != want {
			t.Errorf("cut %v: %q, want %q", cut, got, want)
		}
	}
	m := client.Message{Entry: pim.Entry{Payload: []byte("\xfe")}}
	if m.Text() != "\xfe" { // as before there were envelopes
		t.Errorf("%q", m.Text())
	}
}
