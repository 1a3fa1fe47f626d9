package chat

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

// What Enter does to a message is said above the line.
func TestScreensWithAChoice(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 24}, {40, 12}} {
		d := newDesk(t, size.width, size.height, Start{Open: bob})
		d.talk()
		shows := func(what string) {
			t.Helper()
			d.shows(fmt.Sprintf("%s-%dx%d", what, size.width, size.height))
		}
		d.press(tea.KeyUp)
		shows("edit")
		d.press(tea.KeyEsc)
		d.is(ctrl('l'))
		shows("react")
		d.press(tea.KeyEsc)
		d.is(ctrl('x'))
		shows("recall")
		d.press(tea.KeyEsc)
		d.is(ctrl('r'))
		d.is(ctrl('p'))
		shows("pin")
	}
}

// doing is a desk with a conversation that checks what is asked of the SDK.
type doing struct{ *desk }

func (d doing) does(want ...Effect) {
	d.t.Helper()
	if len(d.did) != len(want) || len(want) > 0 && !reflect.DeepEqual(d.did, want) {
		d.t.Errorf("did %+v, want %+v", d.did, want)
	}
	d.did = nil
}

func (d doing) has(line string) {
	d.t.Helper()
	if got := d.Model.input.text(); got != line {
		d.t.Errorf("the line is %q, want %q", got, line)
	}
}

func inTalk(t *testing.T) doing {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.talk()
	return doing{d}
}

// ↑ in an empty line edits the user's last message, and goes to earlier ones. What else the message
// says stays, as that it is a reply.
func TestEdit(t *testing.T) {
	d := inTalk(t)
	d.types("draft")
	d.press(tea.KeyUp)
	d.has("draft")
	d.is(ctrl('u'))
	d.press(tea.KeyUp)
	d.has("Hello yourself.")
	d.types("!")
	d.press(tea.KeyUp)
	d.sees("Enter ends this edit, Esc leaves it")
	d.press(tea.KeyEnter)
	reply, err := d.items[bob][3].Content()
	if err != nil {
		t.Fatal(err)
	}
	reply.Text += "!"
	payload, err := reply.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d.does(Refer{Conversation: bob, To: 4, Kind: pim.EntryEdit, Payload: payload})
	d.has("")

	d.press(tea.KeyUp, tea.KeyUp)
	d.sees("edit, Esc leaves it as it was · alice: hi, how are you?")
	d.press(tea.KeyUp) // there is none before it
	d.press(tea.KeyDown)
	d.has("Hello yourself.")
	d.press(tea.KeyEnter)
	d.does() // nothing was changed
	d.press(tea.KeyUp, tea.KeyDown)
	d.has("")
	d.press(tea.KeyUp)
	d.is(ctrl('u'))
	d.press(tea.KeyEnter)
	d.sees("nothing would be left of the message")
	d.types("/quit") // no command: the message says it now
	d.press(tea.KeyEnter)
	reply.Text = "/quit"
	if payload, err = reply.Encode(); err != nil {
		t.Fatal(err)
	}
	d.does(Refer{Conversation: bob, To: 4, Kind: pim.EntryEdit, Payload: payload})

	d.is(ctrl('r')) // a message of Bob's
	d.press(tea.KeyUp)
	d.sees("that cannot be done to this message")
	d.is(ctrl('r'))
	d.is(ctrl('r'))
	d.is(ctrl('r'))
	d.is(ctrl('r'))
	d.press(tea.KeyUp)
	d.has("Hello yourself.")

	d.types(" Twice.")
	d.err = pim.Errorf(pim.KindOverloaded, "the outbox is full")
	d.press(tea.KeyEnter)
	d.sees("the outbox is full")
	d.has("Hello yourself. Twice.") // nothing is lost
	d.press(tea.KeyTab)
	d.is(backTab)
	d.has("") // an edit is no draft
}

func TestReact(t *testing.T) {
	d := inTalk(t)
	reaction := func(to pim.Seq, text string, removed bool) Effect {
		return Refer{Conversation: bob, To: to, Kind: pim.EntryReaction, Reaction: text, Removed: removed}
	}
	d.types("draft")
	d.is(ctrl('l'))
	d.has("")
	d.press(tea.KeyEnter)
	d.does(reaction(8, "👍", false)) // to the last of others
	d.has("draft")
	d.is(ctrl('l'))
	d.enters("3")
	d.does(reaction(8, "😂", false))
	d.items[bob][7].Fold = pim.Fold{Target: 8, Reactions: []pim.Reaction{{Text: "🎉", User: "alice", Seq: 20}, {Text: "😂", User: "bob", Seq: 21}}}
	d.happens(client.ChangedEvent{Conversation: bob, Seq: 8})
	d.is(ctrl('l'))
	d.enters("🎉")
	d.does(reaction(8, "🎉", true))
	d.is(ctrl('l'))
	d.enters("😂")
	d.does(reaction(8, "😂", false))
	d.is(ctrl('l'))
	d.enters(strings.Repeat("x", pim.MaxReaction+1))
	d.does()
	d.sees("reaction")
	d.press(tea.KeyEsc)
	for range 5 {
		d.is(ctrl('r'))
	}
	d.is(ctrl('l'))
	d.is(ctrl('r')) // the choice goes on
	d.press(tea.KeyEnter)
	d.does(reaction(3, "👍", false))
	d.has("draft")
}

// A recall is done by two keys: one cannot be undone. Whoever types on has decided against it.
func TestRecall(t *testing.T) {
	d := inTalk(t)
	d.types("draft")
	d.is(ctrl('x'))
	d.press(tea.KeyEnter)
	d.does(Refer{Conversation: bob, To: 4, Kind: pim.EntryRecall})
	d.has("draft")
	d.is(ctrl('x'))
	d.types("!")
	d.press(tea.KeyEnter)
	d.does(Send{bob, "draft!"})
	d.is(ctrl('r'))
	d.is(ctrl('x'))
	d.sees("that cannot be done to this message")

	d.press(tea.KeyEsc)
	d.is(ctrl('x'))
	d.items[bob][3].Fold = pim.Fold{Target: 4, Recall: pim.Mark{Seq: 20, By: "alice"}}
	d.items[bob][3].Entry.Payload, d.items[bob][3].Entry.Erased = nil, true
	d.happens(client.ChangedEvent{Conversation: bob, Seq: 4})
	d.sees("the message was recalled")
	d.press(tea.KeyEnter)
	d.does()
	d.is(ctrl('x'))
	d.sees("Enter recalls it, Esc does not · alice: hi, how are you?")
}

func TestPinForAll(t *testing.T) {
	d := inTalk(t)
	d.is(ctrl('r'))
	d.is(ctrl('p'))
	d.sees("Enter pins it for all")
	d.press(tea.KeyEnter)
	d.does(Refer{Conversation: bob, To: 8, Kind: pim.EntryPin})
	d.items[bob][7].Fold = pim.Fold{Target: 8, Pin: pim.Mark{Seq: 20, By: "alice"}}
	d.happens(client.ChangedEvent{Conversation: bob, Seq: 8})
	d.is(ctrl('r'))
	d.is(ctrl('p'))
	d.sees("Enter unpins it for all")
	d.press(tea.KeyEnter)
	d.does(Refer{Conversation: bob, To: 8, Kind: pim.EntryPin, Removed: true})
}

// A change that the server refuses is said, wherever the user is, and is not counted as a failed
// message.
func TestRefusedChange(t *testing.T) {
	d := inTalk(t)
	d.is(ctrl('x'))
	d.press(tea.KeyEnter)
	change := id(d.next)
	d.happens(client.SendEvent{ID: change, Conversation: bob, State: client.InFlight, Attempt: 1})
	d.sees("connected · outbox 5 · 1 failed")
	d.happens(client.SendEvent{ID: change, Conversation: bob, State: client.Failed, Err: pim.Errorf(pim.KindForbidden, "too late")})
	d.sees("a change was given up: too late")
	d.sees("connected · outbox 4 · 1 failed")
	d = doing{newDesk(t, 80, 24, Start{Open: bob, Outbox: []client.Outgoing{{ID: id(99), Conversation: bob, Kind: pim.EntryRecall, Refers: 4}}})}
	d.happens(client.SendEvent{ID: id(99), Conversation: bob, State: client.Failed, Err: pim.Errorf(pim.KindForbidden, "too late")})
	if d.Model.failed("") != 0 {
		t.Error("counted as a failed message")
	}
}

// Somebody who edits a message and answers it with what it says now: the quotes follow.
func TestQuotesAreOfNow(t *testing.T) {
	d := inTalk(t)
	d.items[bob][0].Fold = pim.Fold{Target: 1, Edit: pim.Edit{Seq: 20, By: "bob", Payload: []byte("hallo")}}
	d.happens(client.ChangedEvent{Conversation: bob, Seq: 1})
	d.sees("┌ Bob B.: hallo")
	for range 8 {
		d.is(ctrl('r'))
	}
	d.sees(" reply to Bob B.: hallo")
	d.enters("hi")
	reply, _ := d.did[0].(Reply)
	if got := content.ReplyTo(reply.To); got.Seq != 1 || got.Excerpt != "hallo" {
		t.Errorf("it quotes %+v", got)
	}
	d.items[bob][0].Entry.Payload, d.items[bob][0].Entry.Erased, d.items[bob][0].Fold = nil, true, pim.Fold{Target: 1}
	d.happens(client.ChangedEvent{Conversation: bob, Seq: 1})
	d.sees("┌ Bob B.: (erased)")
	d.sees("12:01    Bob B.: (erased)")
}

// The list tells of a change with the beginning of the message, as far as this device has it.
func TestListTellsOfChanges(t *testing.T) {
	d := newDesk(t, 120, 24, Start{Open: bob})
	d.furnish()
	tells := func(e pim.Entry, want string) {
		t.Helper()
		e.Conversation, e.Sender, e.Server = bob, "bob", 1
		e.Seq = d.list[1].Last.Seq + 1
		d.list[1].Last = e
		d.happens(client.EntryEvent{Entry: e})
		if got := d.Model.lastLine(&d.Model.list[1]); got != want {
			t.Errorf("%v: %q, want %q", e.Kind, got, want)
		}
	}
	tells(pim.Entry{Kind: pim.EntryReaction, Refers: 1, Reaction: "👍"}, "Bob B.: 👍 to: hello")
	tells(pim.Entry{Kind: pim.EntryReaction, Refers: 1, Reaction: "👍", Removed: true}, "* Bob B. took 👍 back from: hello")
	tells(pim.Entry{Kind: pim.EntryReaction, Refers: 99, Reaction: "👍"}, "Bob B.: 👍 to: a message")
	tells(pim.Entry{Kind: pim.EntryEdit, Refers: 1, Payload: []byte("hallo")}, "Bob B., edited: hallo")
	d.items[bob][0].Fold = pim.Fold{Target: 1, Edit: pim.Edit{Seq: 20, By: "bob", Payload: []byte("hallo")}}
	tells(pim.Entry{Kind: pim.EntryPin, Refers: 1}, "* Bob B. pinned: hallo")
	tells(pim.Entry{Kind: pim.EntryPin, Refers: 1, Removed: true}, "* Bob B. unpinned: hallo")
	tells(pim.Entry{Kind: pim.EntryRecall, Refers: 1}, "* Bob B. recalled a message")
	tells(pim.Entry{Kind: pim.EntryEdit, Refers: 1, Erased: true}, "* Bob B. recalled a message")
	tells(pim.Entry{Kind: pim.EntryErase, Refers: 5}, "* Bob B. erased all that they had written")
	tells(pim.Entry{Kind: 99, Refers: 5}, "* Bob B. wrote something that this version does not know")
}

// Ctrl-T marks the open conversation as unread. It is not read then, so that the SDK leaves the
// mark, until something new is seen there, or it is opened again.
func TestMarkedAsUnread(t *testing.T) {
	for _, width := range []int{80, 120} {
		d := doing{newDesk(t, width, 24, Start{Open: bob})}
		d.furnish()
		mark := func(removed bool) pim.Command {
			return pim.Command{Kind: pim.CommandUnread, Subject: string(bob), Removed: removed}
		}
		marked := func(is bool) {
			d.list[1].Marked = is
			cmd := mark(!is)
			d.happens(client.SettingEvent{Entity: cmd.Entity(), Setting: pim.Setting{At: 1, Command: cmd}})
		}
		reads := func(want pim.ConversationID) {
			t.Helper()
			if d.reading != want {
				t.Errorf("%q is read, want %q", d.reading, want)
			}
		}
		reads(bob)
		d.is(ctrl('t'))
		d.does(Change{mark(false)})
		d.sees("is marked as unread")
		marked(true)
		d.sees("✗ ●")
		d.is(tea.BlurMsg{})
		d.is(tea.FocusMsg{})
		d.does(Look{}, Look{On: true})
		reads("")
		d.is(ctrl('t'))
		d.does(Change{mark(true)})
		marked(false)
		reads(bob)

		marked(true)
		reads("")
		d.press(tea.KeyTab)
		reads(wang)
		d.is(backTab)
		reads(bob)
		marked(false)

		marked(true)
		again := says(bob, 4, "bob", "again")
		d.items[bob] = append(d.items[bob], again)
		d.happens(client.EntryEvent{Entry: again.Entry})
		reads(bob)
		marked(false)
		d.did = nil
		d.enters("/unread")
		d.does(Change{mark(false)})
	}
}
