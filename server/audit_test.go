package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/server"
)

// audit returns the audit log of data, a few words for each line.
func audit(t *testing.T, data string) (lines []string) {
	t.Helper()
	open := map[string]string{}
	err := server.ReadAudit(data, func(a server.Audit) error {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s%s", a.Act, a.State, a.User, filepath.Base(a.Path))))
		if a.Who == "" != (a.Act == "keys") || a.Who != "" && (a.UID == nil || *a.UID != os.Getuid()) || a.Time == "" || a.At == 0 {
			t.Errorf("who and when: %+v", a)
		}
		if a.State == "begun" {
			open[a.ID] = a.Act
		} else if open[a.ID] != a.Act {
			t.Errorf("%+v has not begun", a)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// What operators do is in the audit log, with who did it: before it is done and afterwards, and also what
// fails and what follows from a changed file.
func TestAudit(t *testing.T) {
	c := config(t)
	if lines := audit(t, c.Data); lines != nil {
		t.Errorf("before the start: %q", lines)
	}
	n := start(t, c, server.Options{})
	n.revokes(server.Revoke{User: "alice"})
	n.revokes(server.Revoke{User: "alice", Block: true})
	if err := server.Drain(t.Context(), c, "x", true); err == nil {
		t.Error("the only node drains")
	}
	keys, err := os.ReadFile(c.KeysPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.KeysPath(), append(keys, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "revoke begun alice.|revoke done alice.|block begun alice.|block done alice.|drain begun .|drain failed .|keys begun keys.json|keys done keys.json"
	if got := strings.Join(audit(t, c.Data), "|"); got != want {
		t.Errorf("the audit log has\n%s\nwant\n%s", got, want)
	}
	info, err := os.Stat(filepath.Join(c.Data, "audit.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: %v", info, err)
	}
}

// The log is bounded: the oldest file goes. What cannot be noted is done all the same.
func TestAuditIsBounded(t *testing.T) {
	c := config(t)
	n := start(t, c, server.Options{})
	path := filepath.Join(c.Data, "audit.jsonl")
	full := []byte(`{"at_ms":1,"time":"t","act":"old"}` + "\n" + strings.Repeat(strings.Repeat("x", 60<<10)+"\n", 140))
	for range 7 {
		if err := os.WriteFile(path, full, 0o600); err != nil {
			t.Fatal(err)
		}
		n.revokes(server.Revoke{User: "alice"})
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 5 {
		t.Errorf("%q: %v", files, err)
	}
	acts := map[string]int{}
	if err := server.ReadAudit(c.Data, func(a server.Audit) error { acts[a.Act]++; return nil }); err != nil || acts["old"] != 4 || acts["revoke"] != 2 {
		t.Errorf("%v: %v", acts, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // not even root can write it
		t.Fatal(err)
	}
	n.revokes(server.Revoke{User: "alice", Block: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if st, err := server.AccessOf(ctx, c, "alice"); err != nil || !st.Blocked {
		t.Errorf("%+v: %v", st, err)
	}
}
