package chat

import (
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
		{"/leave", group, Leave{group}},
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
		"/block": "/block [USER]", "/group": "/group USER…", "/group a:b": "not allowed", "/contact": "/contact USER", "/leave": "only a group",
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
	e.insert("two\r\nlines\x1b[2J\t你好")
	is("two lines[2J 你好|")
	press("backspace", "left", "delete")
	is("two lines[2J |")
	press("ctrl+w", "ctrl+w", "ctrl+w", "ctrl+w")
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
	e.insert(strings.Repeat("x", pim.MaxPayload+2))
	is("|")
}

// The cursor is always in the window, and what is left of it always fits.
func TestEditorWindow(t *testing.T) {
	var e editor
	e.set("中文 and 🇩🇪 and e\u0301")
	for width := 3; width < 25; width++ {
		for e.at = range len(e.clusters) + 1 {
			text, cursor := e.window(width)
			if cursor >= width || ansi.StringWidth(text) > width {
				t.Errorf("width %d, at %d: cursor %d in %q", width, e.at, cursor, text)
			}
		}
	}
	e.set("abc")
	if text, cursor := e.window(10); text != "abc" || cursor != 3 {
		t.Errorf("cursor %d in %q", cursor, text)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"hi":                  "hi",
		"a\tb":                "a b",
		"two\nlines":          "two ⏎ lines",
		"\x1b[31mred":         "\ufffd[31mred",
		"back\bspace\x00":     "back\ufffdspace\ufffd",
		"right\u202eto left":  "right\ufffdto left",
		"👩‍👩‍👧 王 e\u0301":     "👩‍👩‍👧 王 e\u0301",
		"no\xffutf8":          "no\ufffdutf8",
		"\u00a0\u2028\u00adx": "  \ufffdx",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// Two chats of a user have devices of their own, which they have again later.
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
		if got := wrap(c.text, c.width); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
