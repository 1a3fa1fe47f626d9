package account_test

import (
	"os"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

func TestKeyring(t *testing.T) {
	oldKeys, path := developmentKeys(t)
	nextKeys, nextPath := developmentKeys(t)
	first, next := record(t, path), record(t, nextPath)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(k *account.Keys) string {
		t.Helper()
		token, err := k.Issue("alice", time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ring := account.NewKeyring(oldKeys)
	reload := func(want bool) {
		t.Helper()
		if changed, err := ring.Reload(); err != nil || changed != want {
			t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
	}
	old, err := ring.Verify(issue(oldKeys), now)
	if err != nil {
		t.Fatal(err)
	}
	reload(false)

	// A second key comes; the first goes on.
	write(file(t, first, next))
	reload(true)
	for _, k := range []*account.Keys{oldKeys, nextKeys} {
		if _, err := ring.Verify(issue(k), now); err != nil {
			t.Error(err)
		}
	}
	if old.Withdrawn.Load() {
		t.Error("the first key was withdrawn")
	}

	// A file that cannot be read changes nothing.
	for _, bad := range []string{"", "{", `{"keys":[]}`, file(t, first, first)} {
		write(bad)
		if changed, err := ring.Reload(); changed || pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: changed %v, %v", bad, changed, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if changed, err := ring.Reload(); changed || pim.KindOf(err) != pim.KindNotFound {
		t.Errorf("no file: changed %v, %v", changed, err)
	}
	if _, err := ring.Verify(issue(oldKeys), now); err != nil || old.Withdrawn.Load() {
		t.Errorf("after files that cannot be read: %v", err)
	}

	// The first key goes. Its tokens are refused, and the connections that they let in are
	// told.
	second, err := ring.Verify(issue(nextKeys), now)
	if err != nil {
		t.Fatal(err)
	}
	write(file(t, next))
	reload(true)
	if _, err := ring.Verify(issue(oldKeys), now); pim.KindOf(err) != pim.KindUnauthorized {
		t.Errorf("a token of a key that is gone: %v", err)
	}
	if !old.Withdrawn.Load() || second.Withdrawn.Load() {
		t.Errorf("withdrawn: first %v, second %v; want only the first", old.Withdrawn.Load(), second.Withdrawn.Load())
	}

	// A key without its private part is still the same key; another key under its ID is
	// not.
	delete(next, "private")
	write(file(t, next))
	reload(true)
	if second.Withdrawn.Load() {
		t.Error("withdrawn with its private part")
	}
	first["id"] = next["id"]
	write(file(t, first))
	reload(true)
	if !second.Withdrawn.Load() {
		t.Error("another key took its ID, and it was not withdrawn")
	}
}
