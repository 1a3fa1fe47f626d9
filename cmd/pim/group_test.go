package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGroupMembers: each member sees who is in the group, also who joined before and who gives no
// receipts; nobody else does.
func TestGroupMembers(t *testing.T) {
	n := serve(t)
	g := n.ok("", "group", "create", "--as", "alice", "carol", "bob")[0]
	n.ok("", "receipts", "--as", "bob", "--switch", "off")
	n.ok("", "group", "join", "--as", "bob", g, "dave")
	said := func(as string) (lines []string) {
		t.Helper()
		date := regexp.MustCompile(`since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`)
		for _, line := range n.ok("", "group", "members", "--as", as, g) {
			lines = append(lines, date.ReplaceAllString(line, "since then"))
		}
		return lines
	}
	want := []string{"alice, owner, since then", "bob, since then", "carol, since then", "dave, since then"}
	if got := said("dave"); !slices.Equal(got, want) {
		t.Errorf("dave is told %q", got)
	}
	n.ok("", "group", "leave", "--as", "alice", g)
	if got := said("dave"); !slices.Equal(got, []string{"bob, since then", "carol, owner, since then", "dave, since then"}) {
		t.Errorf("without alice, dave is told %q", got)
	}
	var m memberJSON
	if err := json.Unmarshal([]byte(n.ok("", "group", "members", "--as", "bob", g, "--json")[2]), &m); err != nil || m.User != "dave" || m.Owner || m.Since != 2 || m.SinceMS == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	n.refuses("user alice is not a member of "+g, exitRefused, "group", "members", "--as", "alice", g)
	n.refuses("is no group", exitUsage, "group", "members", "--as", "alice", "d:alice:bob")
}

// TestGroupInvitations: who does not know a user invites; the invitation is listed, and taken or declined.
func TestGroupInvitations(t *testing.T) {
	n := serve(t, "--consent")
	known, taken, declined := n.ok("", "contact", "--as", "bob", "alice")[0], "", ""
	taken = n.ok("", "group", "create", "--as", "alice", "bob", "carol")[0]
	declined = n.ok("", "group", "create", "--as", "eve", "bob")[0]
	if got := n.ok("", "group", "invitations", "--as", "bob"); len(got) != 1 || !strings.HasPrefix(got[0], declined+", by eve, ") {
		t.Errorf("%s, and bob is invited %q", known, got)
	}
	if got := n.ok("", "list", "--as", "bob"); len(got) != 1 || !strings.HasPrefix(got[0], taken) {
		t.Errorf("bob has %q", got)
	}
	var i invitationJSON
	if err := json.Unmarshal([]byte(n.ok("", "group", "invitations", "--as", "carol", "--json")[0]), &i); err != nil || i.By != "alice" || i.TimeMS == 0 || string(i.Conversation) != taken {
		t.Errorf("%+v, %v", i, err)
	}
	n.refuses("user carol is not a member of "+taken, exitRefused, "send", "--as", "carol", "--conversation", taken, "hi")
	n.ok("", "group", "accept", "--as", "carol", taken)
	n.ok("", "send", "--as", "carol", "--conversation", taken, "hi")
	n.ok("", "group", "decline", "--as", "bob", declined)
	n.refuses("user bob is not a member of "+declined, exitRefused, "group", "accept", "--as", "bob", declined)
	n.ok("", "group", "adders", "--as", "dave", "all")
	if got := n.ok("", "settings", "--as", "dave"); !slices.Equal(got, []string{"adders all"}) {
		t.Errorf("dave's settings are %q", got)
	}
	everybody := n.ok("", "group", "create", "--as", "eve", "dave")[0]
	if got := n.ok("", "list", "--as", "dave"); len(got) != 1 || !strings.HasPrefix(got[0], everybody) {
		t.Errorf("dave has %q", got)
	}
}
