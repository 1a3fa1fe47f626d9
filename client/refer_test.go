package client_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// displays waits until v shows these lines: the text, and what was made of the message.
func displays(t *testing.T, v *client.View, want ...string) {
	t.Helper()
	limit := time.After(5 * time.Minute)
	for {
		var got []string
		for _, m := range v.Items() {
			line := m.Text()
			if m.Edited() {
				line += " (edited)"
			}
			if m.Recalled() {
				line += "(recalled by " + string(m.Fold.Recall.By) + ")"
			}
			if m.Pinned() {
				line += " pinned"
			}
			for _, r := range m.Reactions() {
				line += fmt.Sprintf(" %s%v", r.Text, r.Users)
				if r.Mine {
					line += " mine"
				}
			}
			got = append(got, line)
		}
		if strings.Join(got, "\n") == strings.Join(want, "\n") {
			return
		}
		select {
		case <-v.Changes():
		case <-limit:
			t.Fatalf("displays\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Edits, recalls, reactions and pins are displayed by all devices, whenever their views are
// opened.
func TestRefer(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	lunch := alice.sent(alice.sends(chat, "Lnch?"), nil)
	oops := alice.sent(alice.sends(chat, "oops"), nil)
	view := bob.views(chat, 10)
	displays(t, view, "Lnch?", "oops")

	alice.sent(alice.Edit(t.Context(), chat, lunch.Seq, []byte("Lunch?")))
	alice.sent(alice.Recall(t.Context(), chat, oops.Seq))
	bob.sent(bob.React(t.Context(), chat, lunch.Seq, "+1", true))
	alice.sent(alice.Conversation(chat).React(t.Context(), lunch.Seq, "+1", true))
	alice.sent(alice.Conversation(chat).React(t.Context(), lunch.Seq, "-1", true))
	alice.sent(alice.Conversation(chat).React(t.Context(), lunch.Seq, "-1", false))
	bob.sent(bob.Conversation(chat).PinMessage(t.Context(), lunch.Seq, true))
	displays(t, view, "Lunch? (edited) pinned +1[alice bob] mine", "(recalled by alice)")
	displays(t, bob.views(chat, 10), "Lunch? (edited) pinned +1[alice bob] mine", "(recalled by alice)")
	displays(t, alice.views(chat, 10), "Lunch? (edited) pinned +1[alice bob] mine", "(recalled by alice)")

	if m, err := bob.Conversation(chat).Message(t.Context(), lunch.Seq); err != nil || m.Text() != "Lunch?" || len(m.Reactions()) != 1 || !m.Reactions()[0].Mine {
		t.Errorf("the message alone is %+v, %v", m, err)
	}
	for what, seq := range map[string]pim.Seq{"an edit": oops.Seq + 1, "nothing": 99} {
		if m, err := bob.Conversation(chat).Message(t.Context(), seq); pim.KindOf(err) != pim.KindNotFound {
			t.Errorf("%s as a message: %+v, %v", what, m, err)
		}
	}

	late := w.opens(w.options("bob", "laptop")).reads()
	displays(t, late.views(chat, 10), "Lunch? (edited) pinned +1[alice bob] mine", "(recalled by alice)")
}

// What was made offline is displayed at once, and is displayed no longer when the server refuses
// it.
func TestReferOffline(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	mine := alice.sent(alice.sends(chat, "mine"), nil)
	view, bobs := alice.views(chat, 10), bob.views(chat, 10)
	his := bob.sent(bob.sends(chat, "his"), nil)
	displays(t, view, "mine", "his")
	if err := alice.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	edit, err := alice.Edit(t.Context(), chat, mine.Seq, []byte("mine, edited"))
	if err != nil {
		t.Fatal(err)
	}
	steal, err := alice.Edit(t.Context(), chat, his.Seq, []byte("not mine"))
	if err != nil {
		t.Fatal(err)
	}
	displays(t, view, "mine, edited (edited)", "not mine (edited)")
	displays(t, bobs, "mine", "his")
	if m, err := alice.Conversation(chat).Message(t.Context(), mine.Seq); err != nil || m.Text() != "mine, edited" {
		t.Errorf("the message alone is %+v, %v", m, err)
	}
	if err := alice.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	alice.sent(edit, nil)
	if _, err := steal.Wait(t.Context()); pim.KindOf(err) != pim.KindForbidden {
		t.Errorf("an edit of another's message: %v", err)
	}
	displays(t, view, "mine, edited (edited)", "his")
	displays(t, bobs, "mine, edited (edited)", "his")
}
