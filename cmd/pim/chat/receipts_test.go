package chat

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// at returns a moment of the day of all tests.
func at(hour, minute int) pim.Millis {
	return pim.MillisOf(time.Date(2026, 11, 23, hour, minute, 0, 0, time.UTC))
}

// answered tells the screen the answers to what it has asked beside.
func (d *desk) answered() {
	d.t.Helper()
	for len(d.beside) > 0 {
		f := d.beside[0]
		d.beside = d.beside[1:]
		d.is(f())
	}
}

// gathered gives the desk a group in which alice has written, and opens it.
func (d *desk) gathered() {
	d.furnish()
	d.items[group] = append(d.items[group],
		says(group, 5, "alice", "Shall we meet?"),
		says(group, 6, "carol", "At noon?"),
		says(group, 7, "alice", "At noon."),
		says(group, 8, "alice", "不见不散，就在老地方，带上那本你上次提到的书和一把雨伞。"),
		says(group, 9, "alice", "Anybody?"),
	)
	d.enters("/to g:team")
	d.answered()
}

// What others have read is said at the newest message that they have.
func TestScreensWithReceipts(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 24}, {40, 12}} {
		d := newDesk(t, size.width, size.height, Start{Open: bob})
		shows := func(what string) {
			t.Helper()
			d.shows(fmt.Sprintf("%s-%dx%d", what, size.width, size.height))
		}
		d.talk()
		d.happens(client.ReceiptEvent{Conversation: bob, Receipts: client.Receipts{Delivered: 8, Read: 3, ReadAt: at(12, 5)}})
		shows("direct-receipts")
		d.receipts.Messages = []client.Receipt{{Seq: 5, Read: 3, Members: 3}, {Seq: 7, Read: 2, Members: 3}, {Seq: 8, Read: 2, Members: 3}, {Seq: 9, Members: 3}}
		d.gathered()
		shows("group-receipts")
		d.readers = []client.Reader{{User: "bob"}, {User: "carol", Read: true, At: at(12, 30)}, {User: "王小明", Read: true, At: at(36, 1)}}
		d.is(ctrl('r'))
		d.is(ctrl('r'))
		d.is(ctrl('o'))
		d.answered()
		shows("readers")
		d.press(tea.KeyEsc)
		d.sees("Anybody?")
		d.sees("reply to alice")
	}
}

// The conversation on the screen is looked at, and then the server is asked for what was before.
// After each connect it is asked again.
func TestReceiptsAreAskedFor(t *testing.T) {
	d := newDesk(t, 80, 10, Start{Open: bob})
	d.furnish()
	asked := func(want ...[2]pim.Seq) {
		t.Helper()
		d.answered()
		if !reflect.DeepEqual(d.asked, want) {
			t.Errorf("asked for %v, want %v", d.asked, want)
		}
		d.asked = nil
	}
	connects := func() { d.happens(client.StateEvent{State: client.Connected}) }
	d.items[bob] = d.items[bob][:3]
	d.enters("/to bob")
	asked([2]pim.Seq{1, 3})
	connects()
	asked([2]pim.Seq{1, 3})
	for seq := range pim.Seq(200) {
		d.items[group] = append(d.items[group], says(group, seq+5, "alice", fmt.Sprintf("<%d>", seq+5)))
	}
	d.did = nil
	d.enters("/to g:team")
	if len(d.did) == 0 || d.did[0] != (Watch{group, ""}) {
		t.Errorf("did %+v", d.did)
	}
	for seq := range pim.Seq(50) {
		d.receipts.Messages = append(d.receipts.Messages, client.Receipt{Seq: 155 + seq, Read: 1, Members: 2})
	}
	asked([2]pim.Seq{155, 204})
	for range 7 {
		d.press(tea.KeyPgUp)
	}
	asked()
	d.press(tea.KeyPgUp)
	asked([2]pim.Seq{107, 156})
	d.happens(client.StateEvent{State: client.Waiting})
	for range 9 {
		d.press(tea.KeyPgUp)
	}
	asked()
}

// A later answer, an event of another conversation and what a server has lost change nothing that
// is true, and leave nothing that is not.
func TestReceiptsOfNow(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.talk()
	tells := func(conv pim.ConversationID, r client.Receipts) {
		d.happens(client.ReceiptEvent{Conversation: conv, Receipts: r})
	}
	d.sees("12:04  ✓ alice: Hello yourself.")
	tells(bob, client.Receipts{Delivered: 4})
	d.sees("12:04 ✓✓ alice: Hello yourself.")
	d.is(ctrl('o'))
	d.sees("delivered, and not read as far as is known")
	tells(bob, client.Receipts{Delivered: 8, Read: 8, ReadAt: at(36, 9)})
	d.sees("alice: Hello yourself. · read 24 Nov 12:09")
	if strings.Count(d.screen(), "· read") != 1 {
		t.Errorf("more than one message says that it was read:\n%s", d.screen())
	}
	tells(bob, client.Receipts{Delivered: 5, Read: 4, ReadAt: at(12, 7)})
	tells(group, client.Receipts{Delivered: 99, Read: 99, ReadAt: at(12, 7)})
	d.sees("read 24 Nov 12:09")
	d.is(ctrl('o'))
	d.sees("read by 24 Nov 12:09")
	d.is(ctrl('r'))
	d.is(ctrl('o'))
	d.sees("that is told of messages of your own")
	d.happens(client.RewoundEvent{Conversation: bob, After: 2})
	d.sees("12:04  ✓ alice: Hello yourself.")
	d.press(tea.KeyEsc)
	d.is(ctrl('o'))
	d.sees("stored, and not delivered as far as is known")
	tells(bob, client.Receipts{Delivered: 4})
	d.sees("✓✓ alice: Hello yourself.")
	d.enters("/receipts off")
	d.sees("alice gives and gets no receipts")
	off := client.SettingEvent{Entity: "7/alice", Setting: pim.Setting{At: 1}}
	d.happens(off)
	d.sees(" ✓ alice: Hello yourself.")
	d.did, off.Setting.Removed = nil, true
	d.happens(off)
	if len(d.did) != 1 || d.did[0] != (Watch{bob, "bob"}) {
		t.Errorf("after the switch: %+v", d.did)
	}
	d.enters("/to carol")
	d.is(ctrl('o'))
	d.sees("no message is chosen")
}
