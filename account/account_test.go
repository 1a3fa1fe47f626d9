package account_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// developmentKeys returns fresh keys and the file they are in.
func developmentKeys(t testing.TB) (*account.Keys, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data", "keys.json")
	keys, err := account.CreateDevelopmentKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys, path
}

func TestDevelopmentKey(t *testing.T) {
	keys, path := developmentKeys(t)
	if !keys.Development() || !keys.CanIssue() || keys.Len() != 1 {
		t.Errorf("Development %v, CanIssue %v, Len %d; want true, true, 1", keys.Development(), keys.CanIssue(), keys.Len())
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", info.Mode().Perm())
	}
	before, _ := os.ReadFile(path)
	if _, err := account.CreateDevelopmentKey(path); !errors.Is(err, fs.ErrExist) || pim.KindOf(err) != pim.KindConflict {
		t.Errorf("a second one: %v, want a conflict", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the second one changed the file")
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("files left behind: %v", names)
	}

	again, err := account.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	token, err := keys.Issue("alice", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Verify(token, now); err != nil {
		t.Errorf("after loading the file again: %v", err)
	}
}

func TestDevelopmentKeyRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var made, lost int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := account.CreateDevelopmentKey(path)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, fs.ErrExist):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 || lost != 7 {
		t.Errorf("%d made the file and %d found it, want 1 and 7", made, lost)
	}
}

func TestLoadKeysRefuses(t *testing.T) {
	_, devPath := developmentKeys(t)
	_, otherPath := developmentKeys(t)
	dev, other := record(t, devPath), record(t, otherPath)
	with := func(change map[string]any) string {
		r := map[string]any{}
		for k, v := range dev {
			r[k] = v
		}
		for k, v := range change {
			if v == nil {
				delete(r, k)
			} else {
				r[k] = v
			}
		}
		return file(t, r)
	}
	secret := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, c := range []struct{ name, file, want string }{
		{"no JSON", "hello", "invalid character"},
		{"no keys", `{"keys":[]}`, "holds no keys"},
		{"no object", `[]`, "an array stands where an object is expected"},
		{"a misspelt field", with(map[string]any{"privat": "x"}), "unknown field"},
		{"no id", with(map[string]any{"id": ""}), "its id must have"},
		{"a long id", with(map[string]any{"id": strings.Repeat("k", 65)}), "its id must have"},
		{"alg none", with(map[string]any{"alg": "none"}), "is none of"},
		{"alg RS256", with(map[string]any{"alg": "RS256"}), "is none of"},
		{"another alg's public part", with(map[string]any{"alg": "ES256"}), "its public part is of Ed25519; alg ES256 takes P-256"},
		{"a public part for a secret", with(map[string]any{"alg": "HS256"}), "an HS256 key has a secret"},
		{"a secret beside a public part", with(map[string]any{"secret": secret}), "only an HS256 key"},
		{"a short secret", file(t, map[string]any{"id": "k", "alg": "HS256", "secret": "c2hvcnQ=", "created": now}), "shorter than 32"},
		{"no secret", file(t, map[string]any{"id": "k", "alg": "HS256", "created": now}), "its secret is missing"},
		{"no public part", with(map[string]any{"public": nil}), "its public part is missing"},
		{"a bad private part", with(map[string]any{"private": secret}), "not a PKCS #8"},
		{"another key's private part", with(map[string]any{"private": other["private"]}), "does not belong"},
		{"a field in another case", strings.Replace(file(t, dev), `"alg"`, `"Alg"`, 1), `unknown field "Alg"`},
		{"a field twice", strings.Replace(file(t, dev), `"alg"`, `"alg":"HS256","alg"`, 1), `field "alg" stands twice in /keys/0`},
		{"keys twice", `{"keys":[],` + file(t, dev)[1:], `field "keys" stands twice`},
		{"bytes that are not UTF-8", strings.Replace(file(t, dev), `"id":"`, "\"id\":\"\xff", 1), "invalid UTF-8"},
		{"half a surrogate pair", strings.Replace(file(t, dev), `"id":"`, `"id":"\ud83d`, 1), "invalid surrogate pair"},
		{"a byte order mark", "\ufeff" + file(t, dev), "byte order mark"},
		{"a bracket behind it", file(t, dev) + "]x", "something follows"},
		{"something behind it", file(t, dev) + file(t, other), "something follows"},
		{"one id twice", file(t, dev, dev), "used twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := account.LoadKeys(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
		})
	}
}

func TestLoadKeysMissingOrExposed(t *testing.T) {
	if _, err := account.LoadKeys(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
	if _, err := account.LoadKeys(t.TempDir()); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "it is a directory") {
		t.Errorf("a directory: %v", err)
	}
	_, path := developmentKeys(t)
	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(mode os.FileMode) {
		t.Helper()
		chmod(mode)
		_, err := account.LoadKeys(path)
		if pim.KindOf(err) != pim.KindForbidden || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %04o: %v, want forbidden, and what to run", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o602, 0o604, 0o640, 0o620, 0o610, 0o644, 0o666, 0o444} {
		refused(mode)
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		chmod(mode)
		if keys, err := account.LoadKeys(path); err != nil || len(keys.Warnings()) != 0 {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}

	// A file with public parts only is no secret; but anyone who writes it may become any
	// user.
	r := record(t, path)
	delete(r, "private")
	if err := os.WriteFile(path, []byte(file(t, r)), 0o600); err != nil {
		t.Fatal(err)
	}
	chmod(0o644)
	if keys, err := account.LoadKeys(path); err != nil || len(keys.Warnings()) != 0 {
		t.Errorf("public parts only, mode 0644: %v", err)
	}
	refused(0o646)

	secret := base64.StdEncoding.EncodeToString([]byte("Zr8!kq#0Wm1^pXo2&tYv3*uNb4(cDe5)"))
	if err := os.WriteFile(path, []byte(file(t, map[string]any{"id": "k", "alg": "HS256", "secret": secret})), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(0o644)
}

// A secret that is mounted into a container belongs to another user, who chose its
// mode.
func TestLoadKeysOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	_, path := developmentKeys(t)
	if err := os.Chown(path, 12345, 0); err != nil {
		t.Fatal(err)
	}
	for mode, warned := range map[os.FileMode]bool{0o400: false, 0o440: false, 0o444: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		keys, err := account.LoadKeys(path)
		if err != nil || (len(keys.Warnings()) != 0) != warned {
			t.Errorf("mode %04o: %v, warned %v", mode, err, !warned)
		}
	}
}

// record returns the only key in a key file.
func record(t testing.TB, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Keys []map[string]any }
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f.Keys[0]
}

// file returns a key file with these keys.
func file(t testing.TB, records ...map[string]any) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": records})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
