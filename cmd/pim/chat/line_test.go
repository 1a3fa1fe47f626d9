package chat

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

func TestRead(t *testing.T) {
	change := func(kind pim.CommandKind, subject, value string, removed bool) Effect {
		return Change{pim.Command{Kind: kind, Subject: subject, Value: []byte(value), Removed: removed}}
	}
	for _, c := range []struct {
		line string
		open pim.ConversationID
		want Effect
	}{
		{"", bob, nil},
		{"hi /there", bob, Send{bob, "hi /there"}},
		{" /hi", bob, Send{bob, " /hi"}},
		{"//", bob, Send{bob, "/"}},
		{"///x", bob, Send{bob, "//x"}},
		{"/offline", "", Online{false}},
		{"/online ", "", Online{true}},
		{"/to bob", "", Open{bob}},
		{"/to g:team", "", Open{group}},
		{"/contact bob  Bob B.", "", change(pim.CommandContact, "bob", "Bob B.", false)},
		{"/contact bob", "", change(pim.CommandContact, "bob", "", true)},
		{"/block", bob, Change{pim.Command{Kind: pim.CommandBlock, Subject: "bob"}}},
		{"/unblock carol", bob, Change{pim.Command{Kind: pim.CommandBlock, Subject: "carol", Removed: true}}},
		{"/unmute", group, Change{pim.Command{Kind: pim.CommandMute, Subject: string(group), Removed: true}}},
		{"/pin", bob, Change{pim.Command{Kind: pim.CommandPin, Subject: string(bob)}}},
		{"/receipts off", "", Change{pim.Command{Kind: pim.CommandNoReceipts, Subject: "alice"}}},
		{"/receipts on", bob, Change{pim.Command{Kind: pim.CommandNoReceipts, Subject: "alice", Removed: true}}},
		{"/presence off", "", Change{pim.Command{Kind: pim.CommandNoPresence, Subject: "alice"}}},
		{"/unread", bob, Change{pim.Command{Kind: pim.CommandUnread, Subject: string(bob)}}},
		{"/leave", group, Leave{group}},
		{"/erase yes", group, Refer{Conversation: group, Kind: pim.EntryErase}},
		{"/group bob carol", "", Group{[]pim.UserID{"bob", "carol"}}},
		{"/quit", "", Quit{}},
	} {
		if got, err := Read(c.line, "alice", c.open); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q asks for %+v (%v), want %+v", c.line, got, err, c.want)
		}
	}
	for line, want := range map[string]string{
		"hi": "no conversation is open", "/": "/help", "/frobnicate": "no command /frobnicate", "/mute": "no conversation",
		"/to": "/to USER|GROUP", "/to a b": "/to USER|GROUP", "/to g:": "empty", "/to u:bob": "holds commands", "/to a/b": "not allowed",
		"/block": "/block [USER]", "/group": "/group USER…", "/group a:b": "not allowed", "/contact": "/contact USER", "/leave": "only a group", "/erase": "/erase yes", "/erase no": "/erase yes",
		"/receipts": "/receipts on|off", "/receipts maybe": "/receipts on|off", "/unread": "no conversation",
		"/offline now": "/offline: leave",
	} {
		if got, err := Read(line, "alice", ""); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q asks for %+v, %v; want an error with %q", line, got, err, want)
		}
	}
}

func TestEditor(t *testing.T) {
	var e editor
	press := func(keys ...string) {
		for _, k := range keys {
			if !e.press(k) {
				t.Errorf("%s is no key of the editor's", k)
			}
		}
	}
	is := func(want string) {
		t.Helper()
		before, after := strings.Join(e.clusters[:e.at], ""), strings.Join(e.clusters[e.at:], "")
		if before+"|"+after != want {
			t.Errorf("it is %q, want %q", before+"|"+after, want)
		}
	}
	e.insert("two\r\nlines\rof\x1b[2J\t你好")
	is("two\nlines\nof[2J 你好|")
	press("backspace", "left", "delete")
	is("two\nlines\nof[2J |")
	press("ctrl+w")
	is("two\nlines\n|")
	press("ctrl+w", "backspace")
	is("two|")
	press("ctrl+w", "ctrl+w")
	is("|")
	e.insert("e👩")
	e.insert("\u200d👧")
	press("left")
	e.insert("\u0301")
	is("e\u0301|👩\u200d👧")
	press("backspace", "end", "home", "right")
	is("👩\u200d👧|")
	e.insert(" rest of it")
	press("home", "right", "ctrl+k")
	is("👩\u200d👧|")
	press("ctrl+u")
	is("|")
	if e.press("f1") {
		t.Error("f1 is a key of the editor's")
	}
	for _, kept := range []string{"می\u200cخواهم", "a\u3000b\u00a0c", "\n\n", "e\u200e"} {
		e.set("")
		if whole, err := e.insert(kept); err != nil || !whole || e.text() != kept {
			t.Errorf("%q becomes %q, %v", kept, e.text(), err)
		}
	}
	e.set("")
	if _, err := e.insert(strings.Repeat("x", pim.MaxPayload+2)); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("too much: %v", err)
	}
	is("|")
}

// The cursor is always in the window, and the text of the window always fits.
func TestEditorWindow(t *testing.T) {
	e := editor{measure: ansi.GraphemeWidth}
	e.set("中文 and 🇩🇪 and e\u0301")
	for width := 3; width < 25; width++ {
		for e.at = range len(e.clusters) + 1 {
			text, cursor := e.window(width)
			if cursor >= width || ansi.StringWidth(text) > width {
				t.Errorf("width %d, at %d: cursor %d in %q", width, e.at, cursor, text)
			}
		}
	}
	for text, want := range map[string]struct {
		shown  string
		cursor int
	}{
		"abc":               {"abc", 3},
		"a\nb\n":            {"a⏎b⏎", 4},
		"a\u202eb":          {"a\ufffdb", 3},
		"می\u200cخواهم":     {"می\u200cخواهم", 7},
		"co\u00adop\u200e!": {"co\u00adop\u200e!", 5},
		"a\u3000b":          {"a b", 3},
	} {
		e.set(text)
		if got, cursor := e.window(10); got != want.shown || cursor != want.cursor {
			t.Errorf("%q: cursor %d in %q, want %+v", text, cursor, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"hi":                   "hi",
		"a\tb":                 "a b",
		"two\nlines":           "two ⏎ lines",
		"\x1b[31mred":          "\ufffd[31mred",
		"back\bspace\x00":      "back\ufffdspace\ufffd",
		"right\u202eto left":   "right\ufffdto left",
		"👩‍👩‍👧 王 e\u0301":      "👩‍👩‍👧 王 e\u0301",
		"no\xffutf8":           "no\ufffdutf8",
		"\u00a0\u2028\u3000x":  "   x",
		"می\u200cخواهم":        "می\u200cخواهم",
		"co\u00adop":           "co\u00adop",
		"a\u200e\u200fb\u061c": "a\u200e\u200fb\u061c",
		"🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
		"ไทย\u200bไทย\u2060":                                            "ไทย\u200bไทย\u2060",
		"\u06dd١":                                                       "\u06dd١", // the sign around a number: visible, though of class Cf as well
		"\U0001fae9":                                                    "\U0001fae9",
		"ŉ":                                                             "ŉ",
		"\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069": strings.Repeat("\ufffd", 8),
		"\u206a\ufff9\U000e0001":                           strings.Repeat("\ufffd", 3),
		"\u009b2J\x7f\x85":                                 "\ufffd2J\ufffd\ufffd",
		"\ue000\U0010eeee\ufffe":                           strings.Repeat("\ufffd", 3),
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// Plain leaves out the kinds, wherever they stand in the error.
func TestPlain(t *testing.T) {
	full := pim.Errorf(pim.KindDiskFull, "no room")
	for _, c := range []struct {
		err  error
		want string
	}{
		{full, "no room"},
		{pim.Errorf(pim.KindTimeout, "late: %w; sorry", full), "late: no room; sorry"},
		{fmt.Errorf("line 3: %w", errors.Join(full, pim.Errorf(pim.KindConflict, "in use"))), "line 3: no room\nin use"},
		{errors.New("some (thing)"), "some (thing)"},
	} {
		if got := Plain(c.err); got != c.want {
			t.Errorf("Plain(%q) = %q, want %q", c.err, got, c.want)
		}
	}
}

// Two chats of a user have two devices. Later chats have the same devices again.
func TestOpenStore(t *testing.T) {
	dir := t.TempDir()
	open := func(user pim.UserID, device, want pim.DeviceID) client.Store {
		t.Helper()
		s, got, err := OpenStore(t.Context(), dir, user, device)
		if err != nil || got != want {
			t.Fatalf("%s gets %q, %v; want %q", user, got, err, want)
		}
		return s
	}
	first := open("alice", "", "chat-1")
	second := open("alice", "", "chat-2")
	others := []client.Store{open("Alice", "", "chat-1"), open("..", "", "chat-1"), open("a.b", "..", ".."), open("王小明", "", "chat-1")}
	if _, _, err := OpenStore(t.Context(), dir, "alice", "chat-2"); pim.KindOf(err) != pim.KindConflict {
		t.Errorf("a device that is in use: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	first = open("alice", "", "chat-1")
	for _, s := range append(others, first, second) {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if all, _ := filepath.Glob(filepath.Join(dir, "*", "*.db")); len(all) != 6 {
		t.Errorf("%q", all)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"one two three", 13, []string{"one two three"}},
		{"one two three", 12, []string{"one two", "three"}},
		{"one two three", 3, []string{"one", "two", "thr", "ee"}},
		{"one  two", 4, []string{"one", "two"}},
		{"say 你好，世界", 8, []string{"say 你", "好，世界"}},
		{"你好 hello", 5, []string{"你好", "hello"}},
		{"中", 1, []string{"中"}},
		{"e\u0301e\u0301e\u0301", 2, []string{"e\u0301e\u0301", "e\u0301"}},
	} {
		if got := wrap(ansi.GraphemeWidth, c.text, c.width); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
