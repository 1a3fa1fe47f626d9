package chat

import (
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

func TestScreens(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {40, 12}} {
		name := func(what string) string { return fmt.Sprintf("%s-%dx%d", what, size.width, size.height) }
		d := newDesk(t, size.width, size.height, Start{})
		d.shows(name("empty"))
		d = newDesk(t, size.width, size.height, Start{Open: bob})
		d.furnish()
		d.types("a draft, 中文")
		d.shows(name("chat"))
		d.now = d.now.Add(4500 * time.Millisecond)
		d.happens(client.StateEvent{State: client.Waiting, RetryIn: 12 * time.Second, Err: syscall.ECONNREFUSED})
		d.is(backTab)
		d.shows(name("group"))
		d.enters("/nonsense")
		d.shows(name("notice"))
		d.is(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
		d.enters("/help")
		d.shows(name("help"))
		d.press(tea.KeyPgDown)
		d.shows(name("help-2"))
		d.press(tea.KeyPgUp, tea.KeyEsc)
		d.sees("* carol added alice")
	}
}

// The screen fits every size; if there is no room for it, it says so.
func TestAnySize(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.furnish()
	for width := minWidth; width < 100; width += 3 {
		for height := minHeight; height < 40; height += 5 {
			d.is(tea.WindowSizeMsg{Width: width, Height: height})
			d.screen()
		}
	}
	d.is(tea.WindowSizeMsg{Width: 8, Height: 3})
	if got, _ := d.Model.View(); got != "too sma…" && got != "too smal" {
		t.Errorf("shown is %q", got)
	}
}

// The open conversation is read while its newest message is on the screen, whatever is open or comes.
func TestWhatIsOnTheScreenIsRead(t *testing.T) {
	for _, width := range []int{80, 120} {
		d := newDesk(t, width, 10, Start{Open: bob})
		reads := func(want pim.ConversationID) {
			t.Helper()
			if d.reading != want {
				t.Errorf("%q is read, want %q", d.reading, want)
			}
		}
		reads(bob)
		comes := func(seq pim.Seq) {
			m := says(bob, seq, "bob", fmt.Sprint("message ", seq))
			d.items[bob] = append(d.items[bob], m)
			d.happens(client.EntryEvent{Entry: m.Entry})
		}
		for seq := range pim.Seq(21) {
			comes(seq + 1)
		}
		reads(bob)
		d.press(tea.KeyPgUp)
		reads("")
		before := d.screen()
		comes(22)
		reads("")
		if d.screen() != before {
			t.Errorf("what was looked at has moved:\n%s\n%s", before, d.screen())
		}
		d.press(tea.KeyPgDown, tea.KeyPgDown)
		reads(bob)
		d.sees("message 22")
		if d.is(tea.BlurMsg{}); !d.away {
			t.Error("the SDK is not told that nobody looks")
		}
		if d.is(tea.FocusMsg{}); d.away {
			t.Error("the SDK is not told that somebody looks")
		}
		d.press(tea.KeyPgUp)
		d.enters("/to 王小明")
		reads(wang)
		d.enters("/to bob")
		reads(bob)
		d.sees("message 22")
	}
}

func TestOlderMessages(t *testing.T) {
	d := newDesk(t, 80, 10, Start{Open: bob})
	for seq := range pim.Seq(30) {
		d.items[bob] = append(d.items[bob], says(bob, seq+11, "bob", fmt.Sprintf("<%d>", seq+11)))
	}
	d.happens(client.EntryEvent{Entry: d.items[bob][29].Entry})
	d.press(tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp)
	d.sees("<11>")
	if len(d.beside) != 1 {
		t.Fatalf("asked %d times for older ones", len(d.beside))
	}
	for seq := range pim.Seq(10) {
		d.items[bob] = append([]client.Message{says(bob, 10-seq, "bob", fmt.Sprintf("<%d>", 10-seq))}, d.items[bob]...)
	}
	before := d.screen()
	d.is(d.beside[0]())
	if got := d.screen(); got[strings.Index(got, "<12>"):] != before[strings.Index(before, "<12>"):] {
		t.Errorf("what was looked at has moved:\n%s\n%s", before, got)
	}
	for range 5 {
		d.press(tea.KeyPgUp)
	}
	d.sees("<1>")
	if len(d.beside) != 1 {
		t.Error("asked again, though there is no more")
	}
	d.items[bob] = nil // the view has begun anew, behind a gap
	for seq := range pim.Seq(30) {
		d.items[bob] = append(d.items[bob], says(bob, seq+1000, "bob", fmt.Sprintf("<%d>", seq+1000)))
	}
	d.happens(client.EntryEvent{Entry: d.items[bob][29].Entry})
	d.press(tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgUp)
	if len(d.beside) != 2 {
		t.Error("did not ask for what lies in the gap")
	}
}

// A crowded conversation is loaded anew, rather than held without bound.
func TestItemsAreBounded(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	for i := range maxItems + 1 {
		d.items[bob] = append(d.items[bob], says(bob, pim.Seq(i+1), "bob", "x"))
	}
	all := d.items[bob]
	opened := 0
	d.Backend = opening{d, func() { opened++; d.items[bob] = all[maxItems-firstPage:] }}
	d.happens(client.EntryEvent{Entry: all[maxItems].Entry})
	if opened != 1 || len(d.Model.items) != firstPage+1 {
		t.Errorf("loaded %d times, %d are held", opened, len(d.Model.items))
	}
}

func TestCommandsOfTheScreen(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.furnish()
	does := func(line string, want ...Effect) {
		t.Helper()
		d.enters(line)
		if !reflect.DeepEqual(d.did, want) {
			t.Errorf("%s: %+v, want %+v", line, d.did, want)
		}
		d.did = nil
	}
	does("hi", Send{bob, "hi"})
	does("//hi", Send{bob, "/hi"})
	does("")
	does("/offline", Online{false})
	does("/resend", Resend{id(54)})
	does("/resend ", Resend{id(54)})
	does("/discard", Discard{id(54)})
	does("/mute", Change{pim.Command{Kind: pim.CommandMute, Subject: string(bob)}})
	d.sees("is muted")
	does("/to carol", Watch{pim.Direct("alice", "carol"), "carol"})
	d.sees("│ carol")
	does("/resend")
	d.sees("no message here has failed")
	d.is(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
	d.types("a draft")
	d.press(tea.KeyTab)
	if d.Model.open != group || d.Model.input.text() != "" {
		t.Errorf("Tab leads to %s with %q", d.Model.open, d.Model.input.text())
	}
	d.press(tea.KeyTab, tea.KeyTab)
	d.is(backTab)
	if d.Model.open != bob {
		t.Errorf("and back to %s", d.Model.open)
	}
	d.did = nil
	d.enters("/quit")
	if !d.ended {
		t.Error("/quit does not end it")
	}
}

// A message that could not be queued stays in the line: it is not lost, and Enter sends
// it again.
func TestWhatIsRefusedStays(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.err = pim.Errorf(pim.KindOverloaded, "the outbox is full")
	d.enters("//hi")
	d.sees("the outbox is full")
	d.sees("> //hi")
	d.enters("")
	if want := []Effect{Send{bob, "/hi"}, Send{bob, "/hi"}}; !reflect.DeepEqual(d.did, want) {
		t.Errorf("did %+v", d.did)
	}
}

// A start without a connection shows what the store has.
func TestStartsWithWhatTheStoreHas(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob, Outbox: []client.Outgoing{
		{ID: id(54), Conversation: bob, Kind: pim.EntryMessage, Failed: pim.Errorf(pim.KindForbidden, "no")},
		{ID: id(55), Conversation: bob, Kind: pim.EntryMessage},
		{ID: id(56), Conversation: bob, Kind: pim.EntryMessage, Local: 1},
		{ID: id(57), Conversation: "u:alice", Kind: pim.EntryCommand},
	}, Settings: []client.Setting{{Entity: "contact/bob", Setting: pim.Setting{At: 1, Command: pim.Command{Value: []byte("Bobby")}}}}})
	d.sees("connecting · outbox 3 · 1 failed · alice@127.0.0.1:7400")
	d.sees("│ Bobby (bob)")
	d.happens(client.StateEvent{State: client.Offline})
	d.sees(" offline · outbox 3")
	d.happens(client.StateEvent{State: client.Connected})
	d.sees("connected · outbox 2 · 1 failed")
	d.happens(client.SendEvent{ID: id(55), Conversation: bob, State: client.Delivered},
		client.SendEvent{ID: id(56), Conversation: bob, State: client.Delivered},
		client.SendEvent{ID: id(54), Conversation: bob, State: client.Discarded})
	d.sees(" connected · alice@")
	if d.Model.Err() != nil {
		t.Error(d.Model.Err())
	}
	d.happens(client.StateEvent{State: client.Waiting, RetryIn: time.Second, Err: syscall.ECONNREFUSED})
	if d.Model.Err() != nil {
		t.Errorf("ends with %v", d.Model.Err())
	}
	d.happens(client.StateEvent{State: client.Waiting, RetryIn: time.Second, Err: pim.Errorf(pim.KindUnauthorized, "the token has expired")})
	d.sees("waiting 1 s (the token has expired)")
	if pim.KindOf(d.Model.Err()) != pim.KindUnauthorized {
		t.Errorf("ends with %v", d.Model.Err())
	}
	d.happens(client.StateEvent{State: client.Stopped, Err: pim.Errorf(pim.KindReplaced, "another session of the device")})
	d.sees("stopped: another session of the device")
	if pim.KindOf(d.Model.Err()) != pim.KindReplaced {
		t.Errorf("ends with %v", d.Model.Err())
	}
}

func TestNewGroupIsOpened(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.furnish()
	d.next = 60
	d.enters("/group bob carol")
	if want := []Effect{Group{[]pim.UserID{"bob", "carol"}}}; !reflect.DeepEqual(d.did, want) {
		t.Fatalf("did %+v", d.did)
	}
	d.happens(client.SendEvent{ID: id(61), State: client.Queued})
	d.happens(client.SendEvent{ID: id(61), State: client.InFlight})
	d.happens(client.SendEvent{ID: id(61), Conversation: group, State: client.Delivered, Sent: client.Sent{Conversation: group}})
	if d.Model.open != group {
		t.Errorf("open is %s", d.Model.open)
	}
	d.press(tea.KeyDown)
	d.happens(client.SendEvent{ID: id(62), State: client.Failed, Err: pim.Errorf(pim.KindForbidden, "no groups today")})
	d.sees("not sent: no groups today")
	d.press(tea.KeyDown)
	d.did = nil
	d.enters("/resend")
	if want := []Effect{Resend{id(62)}}; !reflect.DeepEqual(d.did, want) {
		t.Errorf("did %+v", d.did)
	}
}

// A paste keeps its line breaks. A paste that no message has room for is refused with a
// notice.
func TestPaste(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	d.furnish()
	d.types("a: ")
	d.is(tea.PasteMsg{Content: "one\rtwo\r\n\nthree"})
	d.sees("> a: one⏎two⏎⏎three")
	d.is(tea.PasteMsg{Content: strings.Repeat("x", 70_000)})
	d.sees("too long: 70017 bytes, a message holds at most 65536")
	d.sees("> a: one⏎two⏎⏎three")
	d.press(tea.KeyEnter)
	if want := []Effect{Send{bob, "a: one\ntwo\n\nthree"}}; !reflect.DeepEqual(d.did, want) {
		t.Errorf("did %+v", d.did)
	}
	d.is(tea.PasteMsg{Content: "\x1b[31mred"})
	d.sees("control characters were left out")
	d.sees("> [31mred")
	d.is(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
	d.is(tea.PasteMsg{Content: strings.Repeat("x", pim.MaxPayload+1)})
	d.types("y")
	d.sees("too long: ")
}

// A server may cut a preview within a character; what is shown ends with a whole one.
func TestPreviewIsCut(t *testing.T) {
	d := newDesk(t, 80, 24, Start{Open: bob})
	last := says(wang, 9, "王小明", "见面").Entry
	last.Payload = last.Payload[:len(last.Payload)-1]
	d.list = []client.Info{{ID: wang, Newest: 9, Last: last, LastCut: true}}
	d.happens(client.ListEvent{Conversations: []pim.ConversationID{wang}})
	d.sees("王小明: 见…")
	say := content.Content{Text: "好", Reply: &content.Reply{Seq: 3, Sender: "alice", Excerpt: strings.Repeat("x", 200)}}
	payload, err := say.Encode()
	if err != nil {
		t.Fatal(err)
	}
	last.Payload = payload[:64]
	d.list[0].Last = last
	d.happens(client.ListEvent{Conversations: []pim.ConversationID{wang}})
	if d.sees("王小明: 好"); strings.Contains(d.screen(), "好…") {
		t.Errorf("a text that is all there looks cut:\n%s", d.screen())
	}
}

// Invisible characters that scripts need take no column. A cluster takes as many columns
// as the terminal gives it. Every line fits.
func TestWidths(t *testing.T) {
	const flag = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
	report := func(v ansi.ModeSetting) any { return tea.ModeReportMsg{Mode: ansi.ModeUnicodeCore, Value: v} }
	for text, columns := range map[string]struct{ clusters, codePoints int }{
		"می\u200cخواهم": {7, 7}, "co\u00adop": {4, 4}, "a\u200eb\u200f": {2, 2}, flag: {2, 2}, flag + flag: {4, 4}, "\u202ea": {2, 2},
		"👩\u200d👩\u200d👧": {2, 6}, "क्षि": {1, 3}, "王e\u0301": {3, 3},
	} {
		for _, terminal := range []struct {
			says any
			want int
		}{
			{report(ansi.ModeReset), columns.clusters},
			{report(ansi.ModePermanentlySet), columns.clusters},
			{report(ansi.ModeNotRecognized), columns.codePoints},
			{tea.FocusMsg{}, columns.codePoints},
		} {
			d := newDesk(t, 80, 24, Start{Open: bob})
			d.is(terminal.says)
			d.is(tea.PasteMsg{Content: text + "|"})
			if _, cursor := d.Model.View(); cursor != len(prompt)+terminal.want+1 {
				t.Errorf("%q, %v: the cursor is in column %d, want %d", text, terminal.says, cursor, len(prompt)+terminal.want+1)
			}
			d.items[bob] = []client.Message{says(bob, 1, "bob", strings.Repeat(text+" ", 60))}
			d.happens(client.EntryEvent{Entry: d.items[bob][0].Entry})
			d.sees(strings.TrimSpace(strings.ReplaceAll(text, "\u202e", "\ufffd")))
		}
	}
}
