package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Of a direct conversation nothing is said of a user that the server does not tell: who has read nothing, and
// who gives no receipts, look the same. What is no message of one's own has no readers.
func TestReceiptOfOneMessage(t *testing.T) {
	n := serve(t)
	receipt := func(want string, args ...string) {
		t.Helper()
		if got := n.ok("", append([]string{"receipts", "--as", "alice", "--to", "bob"}, args...)...); !strings.HasPrefix(got[0], want) {
			t.Errorf("receipts %q printed %q, want %q", args, got, want)
		}
	}
	receipt("delivered: not known")
	n.ok("", "send", "--as", "alice", "--to", "bob", "one")
	n.ok("", "send", "--as", "alice", "--to", "bob", "two")
	n.ok("", "read", "--as", "bob", "--to", "alice", "1")
	receipt("bob has read it by ", "--seq", "1")
	receipt("bob has not read it", "--seq", "2")
	receipt(`{"user":"bob","read":false}`, "--seq", "2", "--json")
	stored := n.ok("", "receipts", "--as", "bob", "--switch", "off")
	if !strings.HasPrefix(stored[0], "stored: u:bob #") {
		t.Errorf("the switch printed %q", stored)
	}
	for _, seq := range []string{"1", "2"} {
		receipt("bob has not read it, or does not tell", "--seq", seq)
		receipt(`{"user":"bob"}`, "--seq", seq, "--json")
	}
	n.ok("", "receipts", "--as", "bob", "--switch", "on")
	n.ok("", "send", "--as", "bob", "--to", "alice", "three")
	receipt("bob has read it by ", "--seq", "2")
	n.ok("", "react", "--as", "alice", "--to", "bob", "3", "+1")
	n.refuses("#3 of d:alice:bob is by bob", exitRefused, "receipts", "--as", "alice", "--to", "bob", "--seq", "3")
	n.refuses("has no message at seq 4", exitRefused, "receipts", "--as", "alice", "--to", "bob", "--seq", "4")
	n.refuses("there is no entry #9", exitRefused, "receipts", "--as", "alice", "--to", "bob", "--seq", "9")
	n.refuses("--from is for groups", exitUsage, "receipts", "--as", "alice", "--to", "bob", "--from", "1")
	n.refuses("name none", exitUsage, "receipts", "--as", "alice", "--to", "bob", "--switch", "off")
	n.refuses("name none", exitUsage, "look", "--as", "alice", "--to", "bob", "--switch", "off")
}

// A seq of 0 is not taken for one that was left out, and what is no number is named.
func TestSeqsOfTheCommandLine(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "one")
	for _, line := range []string{
		"send hi --reply", "receipts --seq", "receipts --from", "tail --from", "erase --up-to", "read", "edit", "recall", "react", "pin-message",
	} {
		args := append([]string{}, strings.Fields(line)...)
		for seq, want := range map[string]string{"0": "the first message is 1", "x": `"x" is no seq`} {
			args := append(slices.Clone(args), seq)
			switch args[0] {
			case "edit", "react":
				args = append(args, "text")
			}
			n.refuses(want, exitUsage, append(args, "--as", "alice", "--to", "bob")...)
		}
	}
	n.refuses("there is nothing in d:alice:eve yet", exitRefused, "read", "--as", "alice", "--to", "eve")
	n.refuses("leaves no time for an answer", exitUsage, "list", "--as", "alice", "--timeout", "0s")
	n.refuses("is no duration like 30s", exitUsage, "list", "--as", "alice", "--timeout", "30")
}

// What was never marked as read is not said to be read up to #0: one's own messages have read it.
func TestUnreadOfWhatOnlyOwnMessagesRead(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	n.ok("", "send", "--as", "bob", "--to", "alice", "hello")
	if got := n.ok("", "unread", "--as", "bob", "--to", "alice"); got[0] != "d:alice:bob: 0 unread, marked as unread" {
		t.Errorf("unread printed %q", got)
	}
}

// To count what goes, two pages are read at most: beyond them the count is an upper bound, and says so.
func TestEraseOfALongConversation(t *testing.T) {
	n := serve(t)
	many := func(as, to string, count int) {
		n.ok(strings.Repeat("x\n", count), "send", "--as", as, "--to", to, "-")
	}
	many("alice", "bob", 200)
	many("bob", "alice", 1300)
	many("alice", "bob", 3)
	erase := func(want string, args ...string) {
		t.Helper()
		if got := n.ok("", append([]string{"erase", "--as", "alice", "--to", "bob"}, args...)...); got[0] != want {
			t.Errorf("erase %q printed %q, want %q", args, got, want)
		}
	}
	erase("d:alice:bob: 200 messages would be erased, up to #900", "--dry-run", "--up-to", "900")
	erase(fmt.Sprintf("d:alice:bob: at most %d messages would be erased, up to #1503", 503+3), "--dry-run")
	erase(`{"conversation":"d:alice:bob","up_to":1503,"messages":506,"at_most":true,"dry_run":true}`, "--dry-run", "--json")
	erase("d:alice:bob: at most 506 messages erased, up to #1503")
	erase("d:alice:bob: nothing to erase")
}

// Help is where a newcomer looks for it.
func TestHelpAsACommand(t *testing.T) {
	for _, c := range [][2]string{{"help", "--help"}, {"help send", "send --help"}, {"help group leave", "group leave --help"}} {
		got, _, status := pimWith(t.Context(), "", strings.Fields(c[0])...)
		want, _, _ := pimWith(t.Context(), "", strings.Fields(c[1])...)
		if status != exitOK || got != want || got == "" {
			t.Errorf("pim %s: status %d, %q", c[0], status, got)
		}
	}
	if _, stderr, status := pimWith(t.Context(), "", "help", "sned"); status != exitUsage || !strings.Contains(stderr, "sned") {
		t.Errorf("help of no command: status %d, %q", status, stderr)
	}
}
