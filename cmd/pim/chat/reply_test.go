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

// answers is says, as a message that says more than a text.
func answers(t *testing.T, conv pim.ConversationID, seq pim.Seq, sender pim.UserID, say content.Content) client.Message {
	t.Helper()
	payload, err := say.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return says(conv, seq, sender, string(payload))
}

// talk gives the desk a conversation with replies and forwards.
func (d *desk) talk() {
	d.furnish()
	d.unloaded = map[pim.Seq]client.Message{900: says(bob, 900, "alice", "as it is now")}
	to := func(seq pim.Seq, sender pim.UserID, excerpt string) *content.Reply {
		return &content.Reply{Seq: seq, Sender: sender, Excerpt: excerpt}
	}
	hello := &content.Forward{Content: []byte("明天见！"), Sender: "王小明"}
	d.items[bob] = append(d.items[bob][:3:3],
		answers(d.t, bob, 4, "alice", content.Content{Text: "Hello yourself.", Reply: to(1, "bob", "what bob has not said")}),
		answers(d.t, bob, 5, "bob", content.Content{Text: "So it goes on in the next, and so does this.", Reply: to(2, "alice", "hi")}),
		answers(d.t, bob, 6, "bob", content.Content{Text: "Long ago", Reply: to(900, "alice", "a message that is not loaded\x1b\n, and longer than a line of the pane has room for, even if that is wide")}),
		answers(d.t, bob, 7, "bob", content.Content{Forward: hello}),
		answers(d.t, bob, 8, "bob", content.Content{Text: "Have you seen this?", Forward: hello}),
		waits(bob, 55, client.Queued, "next", nil),
	)
	d.happens(client.EntryEvent{Entry: d.items[bob][7].Entry})
	d.answered()
	d.did = nil
}

func ctrl(key rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: key, Mod: tea.ModCtrl} }

var backTab = tea.KeyPressMsg{Code: tea.KeyTab, Mod: tea.ModShift}

func TestScreensWithReplies(t *testing.T) {
	for _, width := range []int{80, 120} {
		d := newDesk(t, width, 24, Start{Open: bob})
		d.talk()
		d.is(ctrl('r'))
		d.is(ctrl('r'))
		d.is(ctrl('r'))
		d.types("I remember")
		d.shows(fmt.Sprintf("reply-%dx24", width))
	}
}

// The excerpt of a message that is not loaded is shown once it is known to be there, and no longer
// when it is recalled or erased.
func TestExcerptsOfWhatIsNotLoaded(t *testing.T) {
	const excerpt = "a message that is not loaded"
	d := newDesk(t, 120, 24, Start{Open: bob})
	lacks := func() {
		t.Helper()
		if strings.Contains(d.screen(), excerpt) {
			t.Errorf("the excerpt is shown:\n%s", d.screen())
		}
	}
	erased := says(bob, 900, "alice", "")
	erased.Entry.Erased = true
	for _, ev := range []client.Event{
		client.ChangedEvent{Conversation: bob, Seq: 900},
		client.ErasedEvent{Conversation: bob, Erasure: pim.Erasure{By: "alice", UpTo: 900}},
	} {
		d.talk()
		d.happens(client.StateEvent{State: client.Connected})
		lacks() // nothing is known yet
		var late []any
		for _, f := range d.beside {
			late = append(late, f())
		}
		d.answered()
		d.sees("┌ alice: " + excerpt)
		d.unloaded[900] = erased
		d.happens(ev)
		lacks()
		d.answered()
		d.sees("┌ alice: (erased)")
		for _, answer := range late {
			d.is(answer) // from before it was gone
		}
		lacks()
	}
}

// Ctrl-R goes up through the messages of the log, and Ctrl-N down and then to none. What is
// typed then answers the message that was chosen, once.
func TestReplyToTheChosen(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.talk()
	to := func(want ...Effect) {
		t.Helper()
		d.enters("hi")
		if !reflect.DeepEqual(d.did, want) {
			t.Errorf("did %+v, want %+v", d.did, want)
		}
		d.did = nil
	}
	plain := Send{bob, "hi"}
	to(plain)
	d.is(ctrl('r'))
	d.sees(" reply to Bob B.: Have you seen this?")
	to(Reply{plain, &d.items[bob][7].Entry})
	to(plain)
	for range 20 {
		d.is(ctrl('r'))
	}
	d.sees(" reply to Bob B.: hello")
	d.is(ctrl('n'))
	to(Reply{plain, &d.items[bob][1].Entry})
	d.is(ctrl('r'))
	d.is(ctrl('n'))
	to(plain)
	d.is(ctrl('r'))
	d.press(tea.KeyEsc)
	to(plain)
	d.is(ctrl('r'))
	d.press(tea.KeyTab)
	d.is(backTab) // the choice is the conversation's
	d.did = nil
	to(plain)

	d.is(ctrl('r'))
	d.err = pim.Errorf(pim.KindOverloaded, "the outbox is full")
	last := Reply{plain, &d.items[bob][7].Entry}
	to(last)
	d.enters("") // nothing is lost, the choice neither
	if !reflect.DeepEqual(d.did, []Effect{last}) {
		t.Errorf("did %+v", d.did)
	}
}

// The chosen message is on the screen wherever the pane was.
func TestChosenIsShown(t *testing.T) {
	d := newDesk(t, 80, 10, Start{Open: bob})
	for seq := range pim.Seq(30) {
		d.items[bob] = append(d.items[bob], says(bob, seq+1, "bob", fmt.Sprintf("<%d>", seq+1)))
	}
	d.happens(client.EntryEvent{Entry: d.items[bob][29].Entry})
	for seq := 30; seq > 0; seq-- {
		d.is(ctrl('r'))
		d.sees(fmt.Sprintf("▸ bob: <%d>", seq))
	}
	d.press(tea.KeyPgDown, tea.KeyPgDown, tea.KeyPgDown, tea.KeyPgDown, tea.KeyPgDown)
	d.is(ctrl('n'))
	d.sees("▸ bob: <2>")
}

// A server that has gone back may have given the seq to another message: that is not
// answered in its place.
func TestChosenIsLost(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.talk()
	d.is(ctrl('r'))
	lost := d.items[bob][7]
	d.items[bob] = d.items[bob][:7:7]
	d.happens(client.RewoundEvent{Conversation: bob, After: 7})
	d.sees(" reply to Bob B.: Have you seen this?") // it may come again
	other := lost
	other.Entry.ClientID = id(99)
	d.items[bob] = append(d.items[bob], other)
	d.happens(client.EntryEvent{Entry: other.Entry})
	if strings.Contains(d.screen(), "reply to") {
		t.Errorf("shown is\n%s", d.screen())
	}
}

// A message is shown as it is now, with the reactions to it below. The list tells of the last change.
func TestScreensWithChanges(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 24}, {40, 12}} {
		d := newDesk(t, size.width, size.height, Start{Open: bob})
		d.furnish()
		items := d.items[bob][:3:3]
		items[0].Fold = pim.Fold{Target: 1, Pin: pim.Mark{Seq: 20, By: "bob"}, Reactions: []pim.Reaction{
			{Text: "+1", User: "alice", Seq: 21}, {Text: "+1", User: "bob", Seq: 22}, {Text: "❤️", User: "bob", Seq: 23},
		}}
		items[1].Fold = pim.Fold{Target: 2, Edit: pim.Edit{Seq: 24, By: "alice", Payload: []byte("what it says now")}}
		items[2].Fold = pim.Fold{Target: 3, Recall: pim.Mark{Seq: 25, By: "bob"}}
		items[2].Entry.Payload, items[2].Entry.Erased = nil, true
		d.items[bob] = append(items, says(bob, 4, "alice", ""))
		d.items[bob][3].Entry.Erased = true
		d.list[1].Last = pim.Entry{Conversation: bob, Seq: 23, Kind: pim.EntryReaction, Sender: "bob", Refers: 1, Reaction: "❤️"}
		d.list[1].Marked = true
		d.list[2].Last = pim.Entry{Conversation: wang, Seq: 9, Kind: pim.EntryEdit, Sender: "王小明", Refers: 1, Payload: []byte("后天见！后天见！")}
		d.happens(client.EntryEvent{Entry: d.list[1].Last}, client.ChangedEvent{Conversation: bob, Seq: 1})
		d.shows(fmt.Sprintf("changes-%dx%d", size.width, size.height))
	}
}
