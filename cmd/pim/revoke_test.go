package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

// What an operator has a server do holds for the clients, and is in the audit log; a user signs a device out.
func TestRevokeCommands(t *testing.T) {
	n := serve(t)
	ok := func(args ...string) string {
		t.Helper()
		out, stderr, status := pimWith(t.Context(), "", append(args, "--data", n.data)...)
		if status != exitOK {
			t.Fatalf("%q: status %d, %s", args, status, stderr)
		}
		return out
	}
	as := func(args ...string) string { return ok(append(args, "--server", n.url, "--as", "alice")...) }
	as("send", "--device", "phone", "--to", "bob", "hi")
	if out := ok("user", "show", "alice"); out != "nothing is revoked\n" {
		t.Errorf("at first: %q", out)
	}
	if out := as("devices", "sign-out", "--device", "laptop", "phone"); out != "phone is signed out\n" {
		t.Errorf("%q", out)
	}
	out := as("devices", "--device", "laptop")
	if !strings.Contains(out, "laptop: this device\n") || !strings.Contains(out, "phone: here last in the hour of ") || !strings.Contains(out, ", signed out at ") {
		t.Errorf("%q", out)
	}
	token := n.token("alice", "1h")
	if out := ok("revoke", "--user", "alice"); !strings.HasPrefix(out, "tokens of alice that were issued before 2") || !strings.HasSuffix(out, " are revoked; connections ended: 0\n") {
		t.Errorf("%q", out)
	}
	if _, stderr, status := n.pim("", "list", "--token", token, "--json"); status != exitRefused || !strings.Contains(stderr, `"error_kind":"revoked"`) {
		t.Errorf("a revoked token: status %d, %s", status, stderr)
	}
	ok("revoke", "--user", "alice", "--token", "t1")
	ok("user", "block", "alice")
	if out := ok("user", "show", "alice"); !strings.HasPrefix(out, "blocked\nrevoked: tokens issued before 2") || !strings.Contains(out, "with device phone\n") || !strings.HasSuffix(out, "revoked: the token \"t1\"\n") {
		t.Errorf("%q", out)
	}
	var st server.Standing
	if err := json.Unmarshal([]byte(ok("user", "unblock", "alice", "--json")), &server.Revoked{}); err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal([]byte(ok("user", "show", "alice", "--json")), &st); err != nil || st.Blocked || len(st.Tokens) != 1 {
		t.Errorf("%+v: %v", st, err)
	}
	for _, wrong := range [][]string{{"revoke", "--user", "alice", "--before", "noon"}, {"revoke", "--user", "alice", "--token", "x", "--before", "2026-12-01T12:00:00Z"}, {"revoke", "--user", "a/b"}} {
		if _, stderr, status := pimWith(t.Context(), "", append(wrong, "--data", n.data)...); status != exitUsage {
			t.Errorf("%q: status %d, %s", wrong, status, stderr)
		}
	}
	lines := strings.Split(strings.TrimSpace(ok("audit", "--since", "1h")), "\n")
	if len(lines) != 8 || !strings.Contains(lines[0], " revoke begun user=\"alice\"") || !strings.Contains(lines[7], " unblock done user=\"alice\"") {
		t.Errorf("the audit log has %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if out := ok("audit", "--json"); !strings.Contains(out, `"token":"t1"`) || strings.Contains(out, token) {
		t.Errorf("%s", out)
	}
}
