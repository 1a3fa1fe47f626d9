package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// Each of these is an entry, which tail shows.
func TestReferring(t *testing.T) {
	n := serve(t)
	chat := func(command, as string, args ...string) {
		t.Helper()
		n.ok("", append([]string{command, "--as", as, "--conversation", "d:alice:bob"}, args...)...)
	}
	chat("send", "alice", "lnch")
	chat("send", "alice", "oops")
	chat("edit", "alice", "1", "lunch", "at", "noon?")
	chat("recall", "alice", "2")
	chat("react", "bob", "1", "+1")
	chat("react", "bob", "1", "+1", "--remove")
	chat("pin-message", "bob", "1")
	chat("pin-message", "alice", "1", "--remove")
	n.refuses("", 4, "edit", "--as", "bob", "--with", "alice", "1", "mine")
	n.refuses("", 4, "recall", "--as", "alice", "--with", "bob", "99")
	want := []string{
		"alice: lnch", "alice: (erased)", "* alice edited 1: lunch at noon?", "* alice recalled 2",
		"* bob reacted to 1: +1", "* bob took back +1 from 1", "* bob pinned 1", "* alice unpinned 1",
	}
	got := n.ok("", "tail", "--as", "bob", "--with", "alice", "--no-follow")
	for i, line := range want {
		if i >= len(got) || !strings.HasSuffix(got[i], "  "+line) {
			t.Fatalf("tail printed\n%s\nwant line %d to end with %q", strings.Join(got, "\n"), i+1, line)
		}
	}
	last := n.ok("", "tail", "--as", "bob", "--with", "alice", "--no-follow", "--json", "--from", "8")[0]
	if !strings.Contains(last, `"kind":"pin","refers":1,"removed":true`) {
		t.Errorf("tail --json printed %s", last)
	}
}

// Beside a server that keeps messages for a time of its own, the shorter time is what holds, and retain
// says who has set it.
func TestRetainOnAServerThatKeepsLess(t *testing.T) {
	n := serve(t, "--retain", "720h", "--retain-notice", "0s")
	chat := "d:alice:bob"
	for _, test := range []struct{ age, want, json string }{
		{"36500d", "30 days, set by the server, less than the 36500 days of this conversation", `"retain_ms":2592000000,"by":"server","said_ms":3153600000000,"server_ms":2592000000`},
		{"721h", "30 days, set by the server, less than the 721 hours of this conversation", `"retain_ms":2592000000,"by":"server","said_ms":2595600000,"server_ms":2592000000`},
		{"30d", "30 days, set by the server", `"retain_ms":2592000000,"by":"server","said_ms":2592000000,"server_ms":2592000000`},
		{"181h30m", "181h30m0s, set by this conversation", `"retain_ms":653400000,"by":"conversation","said_ms":653400000,"server_ms":2592000000`},
		{"off", "30 days, set by the server", `"retain_ms":2592000000,"by":"server","said_ms":0,"server_ms":2592000000`},
	} {
		if got := n.ok("", "retain", "--as", "alice", "--to", "bob", test.age); len(got) != 2 || got[1] != chat+": "+test.want {
			t.Errorf("retain %s printed %q", test.age, got)
		}
		if got := n.ok("", "retain", "--as", "bob", "--to", "alice"); got[0] != chat+": "+test.want {
			t.Errorf("after %s retain printed %q", test.age, got)
		}
		if got := n.ok("", "retain", "--as", "bob", "--to", "alice", "--json"); got[0] != `{"conversation":"`+chat+`",`+test.json+`}` {
			t.Errorf("after %s retain --json printed %q", test.age, got)
		}
	}
	if got := n.ok("", "retain", "--as", "alice", "--conversation", "u:alice"); got[0] != "u:alice: for ever" {
		t.Errorf("of alice's own log retain printed %q", got)
	}
}

// The owner of a group says for how long messages are kept, and the others are told.
func TestRetain(t *testing.T) {
	n := serve(t)
	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	got := n.ok("", "retain", "--as", "alice", "--conversation", group, "30d")
	from := regexp.MustCompile(`^` + group + `: for ever; from (\d{4}-\d\d-\d\d \d\d:\d\d) on 30 days, set by this conversation$`)
	if len(got) != 2 || got[0] != "stored: "+group+" #2" || !from.MatchString(got[1]) {
		t.Fatalf("retain printed %q", got)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", from.FindStringSubmatch(got[1])[1], time.Local)
	if err != nil || time.Until(at) > 24*time.Hour || time.Until(at) < 23*time.Hour {
		t.Errorf("a shorter time holds from %v on, %v", at, err)
	}
	notice := got[1]
	shows := func(want, json string) {
		t.Helper()
		if got := n.ok("", "retain", "--as", "bob", "--conversation", group); got[0] != group+": "+want {
			t.Errorf("retain printed %q", got)
		}
		got := n.ok("", "retain", "--as", "bob", "--conversation", group, "--json")[0]
		if got = regexp.MustCompile(`"next_from_ms":\d{13},`).ReplaceAllString(got, `"next_from_ms":N,`); got != `{"conversation":"`+group+`",`+json+`}` {
			t.Errorf("retain --json printed %q", got)
		}
	}
	shows(strings.TrimPrefix(notice, group+": "), `"retain_ms":0,"next_ms":2592000000,"next_from_ms":N,"said_ms":2592000000,"server_ms":0`)
	n.ok("", "retain", "--as", "alice", "--conversation", group, "off")
	shows("for ever", `"retain_ms":0,"said_ms":0,"server_ms":0`)
	n.refuses("", 4, "retain", "--as", "bob", "--conversation", group, "30d")
	for _, age := range []string{"6d", "167h", "0", "-30d", "30", "never", "99999999d"} {
		n.refuses("", 2, "retain", "--as", "alice", "--conversation", group, "--", age)
	}
	n.refuses("", 4, "retain", "--as", "carol", "--conversation", group)
	n.refuses("", 4, "retain", "--as", "carol", "--conversation", "g:nothere", "30d")
	n.refuses("", 2, "retain", "--as", "alice", "--conversation", "u:alice", "30d")
	got = n.ok("", "tail", "--as", "bob", "--conversation", group, "--no-follow")
	for i, want := range []string{"* alice keeps messages for 30 days", "* alice keeps messages for as long as the server does"} {
		if len(got) != 3 || !strings.HasSuffix(got[i+1], "  "+want) {
			t.Errorf("tail printed\n%s", strings.Join(got, "\n"))
		}
	}
	last := n.ok("", "tail", "--as", "bob", "--conversation", group, "--no-follow", "--json", "--from", "2")[0]
	if !strings.Contains(last, `"kind":"retain","retain_ms":2592000000`) {
		t.Errorf("tail --json printed %s", last)
	}
}

// What a user has written is erased in one conversation, or in all of the list.
func TestErase(t *testing.T) {
	n := serve(t)
	chat := func(command, as string, args ...string) []string {
		t.Helper()
		return n.ok("", append([]string{command, "--as", as, "--conversation", "d:alice:bob"}, args...)...)
	}
	chat("send", "alice", "one")
	chat("send", "bob", "two")
	chat("edit", "alice", "1", "uno")
	for _, args := range [][]string{{"--dry-run"}, nil} {
		want := "d:alice:bob: 1 message erased, up to #3"
		if len(args) > 0 {
			want = "d:alice:bob: 1 message would be erased, up to #3"
		}
		if got := chat("erase", "alice", args...); got[0] != want {
			t.Errorf("erase %q printed %q", args, got)
		}
	}
	chat("send", "alice", "three")
	if got := chat("erase", "bob", "--up-to", "1"); got[0] != "d:alice:bob: nothing to erase" {
		t.Errorf("erase of nothing printed %q", got)
	}
	n.refuses("", 4, "erase", "--as", "bob", "--conversation", "d:alice:bob", "--up-to", "100")
	check := func(as string, want ...string) {
		t.Helper()
		got := chat("tail", as, "--no-follow")
		for i, line := range want {
			if i >= len(got) || !strings.HasSuffix(got[i], "  "+line) {
				t.Fatalf("tail printed\n%s\nwant line %d to end with %q", strings.Join(got, "\n"), i+1, line)
			}
		}
	}
	check("bob", "alice: (erased)", "bob: two", "* alice edited 1: (erased)", "* alice erased all that they had written", "alice: three")

	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	left := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	n.ok("", "send", "--as", "alice", "--conversation", group, "to all")
	n.ok("", "send", "--as", "alice", "--conversation", left, "before leaving")
	n.ok("", "group", "leave", "--as", "alice", left)
	n.ok("", "send", "--as", "bob", "--conversation", left, "after that")
	var all []string
	for _, line := range n.ok("", "erase", "--as", "alice", "--all", "--json") {
		var e struct {
			Conversation    string
			Messages        int
			Seq             pim.Seq
			ClientMessageID string `json:"client_message_id"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ClientMessageID == "" {
			t.Errorf("erase --all --json printed %q, %v", line, err)
		}
		all = append(all, fmt.Sprintf("%s: %d, #%d", e.Conversation, e.Messages, e.Seq))
	}
	slices.Sort(all)
	want := []string{"d:alice:bob: 1, #6", group + ": 1, #3", left + ": 1, #0"} // where alice has left, nobody tells her the seq
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("erase --all printed %q, want %q", all, want)
	}
	if got := n.ok("", "tail", "--as", "bob", "--conversation", left, "--no-follow"); !strings.HasSuffix(got[1], "alice: (erased)") || len(got) != 5 {
		t.Errorf("tail of the group that alice has left printed %q", got)
	}
	if got := n.ok("", "erase", "--as", "alice", "--all"); slices.ContainsFunc(got, func(s string) bool { return !strings.HasSuffix(s, ": nothing to erase") }) {
		t.Errorf("erase --all, for the second time, printed %q", got)
	}
	check("bob", "alice: (erased)", "bob: two", "* alice edited 1: (erased)", "* alice erased all that they had written", "alice: (erased)")
	if got := n.ok("", "tail", "--as", "bob", "--conversation", group, "--no-follow"); !strings.HasSuffix(got[1], "alice: (erased)") {
		t.Errorf("tail of the group printed %q", got)
	}
	n.refuses("", 4, "erase", "--as", "eve", "--conversation", group)
	n.refuses("", 2, "erase", "--as", "alice", "--all", "--with", "bob")
}
