package main

import (
	"strings"
	"testing"
)

// A mention that reaches nobody is told: of one who is no member, or of two names in one.
func TestMentionOfStrangers(t *testing.T) {
	n := serve(t)
	group := n.ok("", "group", "create", "--as", "alice", "bob", "carol")[0]
	stdout, stderr, status := n.pim("", "send", "--as", "alice", "--conversation", group, "--mention", "bob,carol", "hi")
	if status != exitOK || stderr != "" || stdout != "stored: "+group+" #2\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	for _, user := range []string{"bob", "carol"} {
		if got := n.ok("", "list", "--as", user); !strings.Contains(got[0], "1 mention") {
			t.Errorf("%s has %q", user, got)
		}
	}
	stdout, stderr, status = n.pim("", "send", "--as", "alice", "--conversation", group, "--mention", "bob,dave", "--mention", "eve", "hi")
	if status != exitOK || stdout != "stored: "+group+" #3\n" || stderr != "pim: not in "+group+", so the mention does not reach them: dave, eve\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if got := n.ok("", "send", "--as", "alice", "--to", "bob", "--mention", "carol", "--json", "hi"); !strings.HasSuffix(got[0], `"strangers":["carol"]}`) {
		t.Errorf("send --json printed %q", got)
	}
	if got := n.ok("", "send", "--as", "alice", "--conversation", group, "--mention", "alice,dave", "--mention-all", "--json", "hi"); strings.Contains(got[0], "strangers") {
		t.Errorf("with --mention-all it printed %q", got)
	}
}

// What shows nothing is not sent, and a message that is gone is not answered.
func TestEmptyTexts(t *testing.T) {
	n := serve(t)
	n.refuses("the text is empty", exitUsage, "send", "--as", "alice", "--to", "bob", "")
	n.refuses("the text is empty", exitUsage, "send", "--as", "alice", "--to", "bob", " ", "\t")
	if got := n.ok("one\n\n \ntwo\n", "send", "--as", "alice", "--to", "bob", "--json", "-"); len(got) != 2 || !strings.Contains(got[1], `"line":4`) {
		t.Errorf("send - printed %q", got)
	}
	n.refuses("the text is empty", exitUsage, "edit", "--as", "alice", "--to", "bob", "1", "")
	n.ok("", "recall", "--as", "alice", "--to", "bob", "1")
	n.refuses("was recalled or erased", exitRefused, "send", "--as", "bob", "--to", "alice", "--reply", "1", "why?")
}

// Arguments that name nothing are refused.
func TestArgumentsThatNameNothing(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	n.refuses("nobody blocks themselves", exitUsage, "block", "--as", "alice", "alice")
	n.refuses("not a member of g:nope", exitRefused, "pin", "--as", "alice", "--conversation", "g:nope")
	n.refuses("not a member of g:nope", exitRefused, "mute", "--as", "alice", "--conversation", "g:nope")
	n.refuses("write -- before a text", exitUsage, "edit", "--as", "alice", "--to", "bob", "1", "-1")
	args := append(n.args([]string{"edit", "--as", "alice", "--to", "bob", "1"}), "--", "-1")
	if _, stderr, status := pimWith(t.Context(), "", args...); status != exitOK {
		t.Errorf("%q: status %d, %q", args, status, stderr)
	}
	n.refuses("the first message is 1", exitUsage, "edit", "--as", "alice", "--to", "bob", "0", "x")
	for _, from := range []string{"3", "9"} {
		if _, stderr, status := n.pim("", "tail", "--as", "alice", "--to", "bob", "--no-follow", "--from", from); status != exitOK || stderr != "d:alice:bob ends at #2\n" {
			t.Errorf("tail --from %s: status %d, %q", from, status, stderr)
		}
	}
	_, stderr, status := n.pim("", "edit", "--as", "alice", "--to", "bob", "1", "\xff")
	if status != exitUsage || strings.Contains(stderr, "send -") {
		t.Errorf("status %d, %q", status, stderr)
	}
	_, stderr, status = n.pim("\xff\n"+strings.Repeat("x", 70000), "send", "--as", "alice", "--to", "bob", "-")
	if status != exitUsage || !strings.Contains(stderr, "1 of 2 lines was refused") {
		t.Errorf("status %d, %q", status, stderr)
	}

	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	n.ok("", "group", "leave", "--as", "bob", group)
	n.refuses("not a member", exitRefused, "unread", "--as", "bob", "--conversation", group)
	n.ok("", "unread", "--as", "bob", "--conversation", group, "--remove")
	n.ok("", "read", "--as", "bob", "--conversation", group)
}

// With --json the error that ends a command is JSON, too, also where the command line is wrong.
func TestErrorsAsJSON(t *testing.T) {
	n := serve(t)
	for want, args := range map[string][]string{
		`{"error_kind":"not_member","error":"user alice is not a member of g:nope","status":4}`: {"pin", "--as", "alice", "--conversation", "g:nope"},
		`{"error_kind":"invalid","error":"the text is empty","status":2}`:                       {"send", "--as", "alice", "--to", "bob", ""},
		`{"error_kind":"invalid","error":"unknown flag --nope","status":2}`:                     {"list", "--as", "alice", "--nope"},
	} {
		stdout, stderr, _ := n.pim("", append(args, "--json")...)
		if stdout != "" || stderr != want+"\n" {
			t.Errorf("%q printed %q, %q; want %q", args, stdout, stderr, want)
		}
	}
}

// Receipts answer for one message of a direct conversation, and say of a long group which messages
// they are about.
func TestReceiptsOfWhat(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "one")
	receipts := func(want string, args ...string) {
		t.Helper()
		got := n.ok("", append([]string{"receipts", "--as", "alice"}, args...)...)
		if len(got) == 0 || !strings.HasPrefix(strings.Join(got, "\n"), want) {
			t.Errorf("receipts %v printed %q, want %q", args, got, want)
		}
	}
	receipts("bob has not read it", "--to", "bob", "--seq", "1")
	n.ok("", "read", "--as", "bob", "--to", "alice")
	receipts("bob has read it by ", "--to", "bob", "--seq", "1")
	n.ok("", "send", "--as", "alice", "--to", "bob", "two")
	receipts(`{"user":"bob","read":false}`, "--to", "bob", "--seq", "2", "--json")
	n.refuses("no entry #3 in d:alice:bob, whose last is #2", exitRefused, "receipts", "--as", "alice", "--to", "bob", "--seq", "3")

	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	n.ok(strings.Repeat("line\n", 120), "send", "--as", "alice", "--conversation", group, "-")
	stdout, stderr, _ := n.pim("", "receipts", "--as", "alice", "--conversation", group)
	if strings.Count(stdout, "\n") != 50 || !strings.HasPrefix(stdout, "#72: read by 0 of 1\n") || stderr != "#72 to #121; --from SEQ begins with an earlier one\n" {
		t.Errorf("receipts printed %q, %q", stdout, stderr)
	}
	stdout, stderr, _ = n.pim("", "receipts", "--as", "alice", "--conversation", group, "--from", "1")
	if strings.Count(stdout, "\n") != 120 || !strings.HasPrefix(stdout, "#2: read by 0 of 1\n") || stderr != "" {
		t.Errorf("receipts --from 1 printed %q, %q", stdout, stderr)
	}
}
