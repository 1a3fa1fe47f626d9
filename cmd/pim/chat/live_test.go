package chat

import (
	"fmt"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Who writes is shown until the message comes, or for some seconds; then whether they are there.
func TestWhatOthersDo(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.furnish()
	const title = "│ Bob B. (bob)"
	after := func(wait time.Duration) {
		d.now = d.now.Add(wait)
		d.is(tick{})
	}
	d.sees(title + " · not all is sent")
	d.happens(client.PresenceEvent{User: "bob", Online: true}, client.PresenceEvent{User: "carol", Seen: at(11, 0)})
	d.sees(title + " · online · not all is sent")
	types := client.TypingEvent{Conversation: bob, Users: []pim.UserID{"bob"}}
	d.happens(types)
	d.sees(title + " is typing · not all is sent")
	after(typingHolds - 1)
	d.sees(title + " is typing")
	after(1)
	d.sees(title + " · online")
	d.happens(types, client.EntryEvent{Entry: says(bob, 9, "bob", "so").Entry})
	d.sees(title + " · online")
	d.happens(client.PresenceEvent{User: "bob", Seen: at(11, 58)})
	d.sees(title + " · last seen 11:58")
	d.happens(types, client.StateEvent{State: client.Waiting})
	d.sees(title + " · not all is sent") // nothing is known

	d.happens(client.StateEvent{State: client.Connected}, client.PresenceEvent{User: "bob", Online: true})
	d.happens(client.SettingEvent{Entity: "8/alice", Setting: pim.Setting{At: 1}})
	d.sees(title + " · not all is sent")
	d.enters("/to g:team")
	d.happens(types, client.TypingEvent{Conversation: group, Users: []pim.UserID{"carol"}})
	d.sees("│ g:team · carol is typing · pinned")
	d.happens(client.TypingEvent{Conversation: group, Users: []pim.UserID{"bob"}}) // carol was named just before
	d.sees("│ g:team · Bob B., carol are typing · pinned")
	d.happens(client.TypingEvent{Conversation: group, Users: []pim.UserID{"carol", "bob", "dave", "eve"}})
	d.sees("│ g:team · several are typing · pinned")
}

func TestScreensOfTheMoment(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 24}, {40, 12}} {
		d := newDesk(t, size.width, size.height, Start{Open: bob})
		d.furnish()
		d.happens(client.TypingEvent{Conversation: bob, Users: []pim.UserID{"bob"}})
		d.shows(fmt.Sprintf("typing-%dx%d", size.width, size.height))
		d.enters("/to 王小明")
		d.happens(client.PresenceEvent{User: "王小明", Seen: at(-20, 58)})
		d.shows(fmt.Sprintf("last-seen-%dx%d", size.width, size.height))
	}
}

// Others are told while a message is written, and not of commands, edits and reactions.
func TestWritingIsTold(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.talk()
	told := func(want int) {
		t.Helper()
		if d.wrote != want {
			t.Errorf("told %d times, want %d", d.wrote, want)
		}
		d.wrote = 0
	}
	d.types("/to")
	d.is(ctrl('u'))
	d.press(tea.KeyUp)
	d.types("!")
	d.press(tea.KeyEsc)
	d.is(ctrl('l'))
	d.types("1")
	d.press(tea.KeyEsc)
	told(0)
	d.types("hi")
	d.is(tea.PasteMsg{Content: " and more"})
	told(3)
	d.press(tea.KeyEnter)
	d.types("//")
	told(1)
}

// A user who has not written yet does not show when they are there. After the first message they do.
func TestWatchesWhoHasWritten(t *testing.T) {
	d := doing{newDesk(t, 80, 24, Start{})}
	d.enters("/to dave")
	dave := pim.Direct("alice", "dave")
	d.does(Watch{dave, "dave"})
	d.happens(client.PresenceEvent{User: "dave"}, client.EntryEvent{Entry: says(dave, 1, "alice", "hi").Entry})
	d.does()
	d.happens(client.EntryEvent{Entry: says(dave, 2, "dave", "hi").Entry})
	d.does(Watch{dave, "dave"})
	d.happens(client.PresenceEvent{User: "dave", Online: true}, client.EntryEvent{Entry: says(dave, 3, "dave", "hi").Entry})
	d.does()
	d.enters("/to alice")
	d.does(Watch{pim.Direct("alice", "alice"), ""})
}
