package main

import (
	"encoding/json"
	"regexp"
	"slices"
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
