package account_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"

	"github.com/golang-jwt/jwt/v5"
)

// A key says whose its tokens are and for whom. One that says nothing takes tokens whatever theirs say.
func TestIssuerAndAudience(t *testing.T) {
	secret := []byte(strings.Repeat("0123456789abcdef", 2))
	path := filepath.Join(t.TempDir(), "keys.json")
	key := func(id, issuer, audience string) map[string]any {
		return map[string]any{"id": id, "alg": "HS256", "secret": base64.StdEncoding.EncodeToString(secret), "issuer": issuer, "audience": audience}
	}
	write := func(keys ...map[string]any) {
		t.Helper()
		if err := os.WriteFile(path, []byte(file(t, keys...)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(key("any", "", ""), key("both", "https://app", "chat"))
	keys, err := account.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		body map[string]any
		want string // in the error of the key that says both; empty: valid
	}{
		{"neither", map[string]any{}, "iss"},
		{"both", map[string]any{"iss": "https://app", "aud": "chat"}, ""},
		{"among others", map[string]any{"iss": "https://app", "aud": []string{"mail", "chat"}}, ""},
		{"another issuer", map[string]any{"iss": "https://app/", "aud": "chat"}, "iss"},
		{"several issuers", map[string]any{"iss": []string{"https://app"}, "aud": "chat"}, "iss"},
		{"another audience", map[string]any{"iss": "https://app", "aud": "chats"}, "aud"},
		{"other audiences", map[string]any{"iss": "https://app", "aud": []string{"mail"}}, "aud"},
		{"none", map[string]any{"iss": "https://app", "aud": []string{}}, "aud"},
		{"null", map[string]any{"iss": "https://app", "aud": nil}, "aud"},
		{"a number among them", map[string]any{"iss": "https://app", "aud": []any{"chat", 7}}, "aud"},
	} {
		token := func(id string) string { return sign(t, jwt.SigningMethodHS256, kid(id), good(c.body), secret) }
		if _, err := keys.Verify(token("any"), now); err != nil {
			t.Errorf("%s, of a key that says nothing: %v", c.name, err)
		}
		_, err := keys.Verify(token("both"), now)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || pim.KindOf(err) != pim.KindUnauthorized || account.ByTime(err)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	write(key("both", "https://app", "chat"))
	if keys, err = account.LoadKeys(path); err != nil {
		t.Fatal(err)
	}
	ring := account.NewKeyring(keys)
	token, err := keys.Issue("alice", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := ring.Verify(token, now)
	if err != nil {
		t.Fatalf("what the key itself signs: %v", err)
	}
	write(key("both", "https://app", "mail"))
	if changed, err := ring.Reload(); !changed || err != nil || !claims.Withdrawn.Load() {
		t.Errorf("another audience: changed %v, withdrawn %v: %v", changed, claims.Withdrawn.Load(), err)
	}
	write(key("both", strings.Repeat("x", 257), ""))
	if _, err := account.LoadKeys(path); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a long issuer: %v", err)
	}
}

// A token's ID and its date are told; an ID that is none is refused.
func TestTokenIDAndDate(t *testing.T) {
	b := newBench(t)
	verify := func(body map[string]any) (account.Claims, error) {
		return b.keys.Verify(sign(t, jwt.SigningMethodHS256, kid("hs"), good(body), b.secret), now)
	}
	if c, err := verify(map[string]any{"iat": nil}); err != nil || c.ID != "" || !c.Issued.IsZero() {
		t.Errorf("neither: %+v, %v", c, err)
	}
	long := strings.Repeat("x", account.MaxTokenID)
	if c, err := verify(map[string]any{"iat": now.Unix(), "jti": long}); err != nil || c.ID != long || !c.Issued.Equal(now.Truncate(time.Second)) {
		t.Errorf("both: %+v, %v", c, err)
	}
	for _, bad := range []any{"", long + "x", 7, []string{"x"}} {
		if _, err := verify(map[string]any{"jti": bad}); pim.KindOf(err) != pim.KindUnauthorized {
			t.Errorf("jti %v: %v", bad, err)
		}
	}
}
