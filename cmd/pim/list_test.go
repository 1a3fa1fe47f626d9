package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The list is that of an app, and to look at it changes nothing that anybody sees.
func TestList(t *testing.T) {
	n := serve(t)
	if got := n.ok("", "list", "--as", "bob"); got[0] != "" {
		t.Errorf("of nothing, list printed %q", got)
	}
	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	n.ok("", "send", "--as", "alice", "--conversation", group, "--mention", "bob", "lunch?")
	n.ok("", "send", "--as", "alice", "--conversation", group, strings.Repeat("long ", 100))
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	n.ok("", "pin", "--as", "bob", "--conversation", group)
	n.ok("", "mute", "--as", "bob", "--conversation", group)
	n.ok("", "unread", "--as", "bob", "--to", "alice")
	for range 2 {
		people := n.ok("", "list", "--as", "bob")
		if len(people) != 2 || !strings.HasPrefix(people[0], group+", 2 unread, 1 mention, pinned, muted: ") || !strings.HasSuffix(people[0], "…") ||
			!strings.HasPrefix(people[1], "d:alice:bob, 1 unread, marked as unread: ") || !strings.HasSuffix(people[1], " alice: hi") {
			t.Errorf("list printed %q", people)
		}
	}
	if got := n.ok("", "receipts", "--as", "alice", "--to", "bob"); got[0] != "delivered: not known" {
		t.Errorf("after pin, mute, unread and list: %q", got)
	}
	var list []conversationJSON
	for _, line := range n.ok("", "list", "--as", "bob", "--json") {
		var c conversationJSON
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	if len(list) != 2 || list[0].Unread != 2 || list[0].Mentions != 1 || !list[0].Pinned || !list[0].Muted || list[0].Last.Seq != 3 || !list[0].Last.Cut ||
		list[1].Conversation != "d:alice:bob" || !list[1].Marked || list[1].Last.Text != "hi" || list[1].Last.Kind != "message" || list[1].Last.TimeMS == 0 {
		t.Errorf("list --json printed %+v", list)
	}
	n.ok("", "group", "leave", "--as", "bob", group)
	if got := n.ok("", "list", "--as", "bob"); !strings.Contains(got[0], ", left: ") || !strings.HasSuffix(got[0], " leave by bob") {
		t.Errorf("after leaving, list printed %q", got)
	}
}

// All that is set is shown, and what was ended is not.
func TestPrintSettings(t *testing.T) {
	n := serve(t)
	n.ok("", "contact", "--as", "bob", "alice", "Alice", "A.")
	n.ok("", "contact", "--as", "bob", "carol")
	n.ok("", "block", "--as", "bob", "eve")
	n.ok("", "block", "--as", "bob", "frank")
	n.ok("", "block", "--as", "bob", "frank", "--remove")
	n.ok("", "pin", "--as", "bob", "--to", "alice")
	n.ok("", "mute", "--as", "bob", "--to", "alice", "--for", "1h")
	n.ok("", "mute", "--as", "bob", "--to", "carol")
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	n.ok("", "read", "--as", "bob", "--to", "alice")
	n.ok("", "unread", "--as", "bob", "--to", "alice")
	n.ok("", "receipts", "--as", "bob", "--switch", "off")
	got := n.ok("", "settings", "--as", "bob")
	for i, want := range []string{
		"contact alice: Alice A.", "contact carol", "block eve", "mute d:alice:bob until ", "mute d:bob:carol",
		"pin d:alice:bob", "unread d:alice:bob", "receipts off",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("settings printed\n%s\nwant line %d to be %q", strings.Join(got, "\n"), i+1, want)
		}
	}
	last := n.ok("", "settings", "--as", "bob", "--json")
	if len(last) != 8 || last[0] != `{"kind":"contact","subject":"alice","name":"Alice A."}` || last[7] != `{"kind":"no-receipts","subject":"bob"}` {
		t.Errorf("settings --json printed %q", last)
	}
}
