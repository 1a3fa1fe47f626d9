package account_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"

	"github.com/golang-jwt/jwt/v5"
)

// bench is a key file with one key of each algorithm, and the keys themselves,
// to forge tokens with.
type bench struct {
	keys   *account.Keys
	ed     ed25519.PrivateKey
	es     *ecdsa.PrivateKey
	secret []byte
}

func newBench(t testing.TB) *bench {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{ed: ed, es: es, secret: bytes.Repeat([]byte("s"), 32)}
	path := filepath.Join(t.TempDir(), "keys.json")
	content := file(t,
		map[string]any{"id": "ed", "alg": "EdDSA", "public": public(t, ed.Public()), "created": now.Add(-3 * time.Hour)},
		map[string]any{"id": "es", "alg": "ES256", "public": public(t, es.Public()), "private": private(t, es), "created": now.Add(-2 * time.Hour)},
		map[string]any{"id": "hs", "alg": "HS256", "secret": base64.StdEncoding.EncodeToString(b.secret), "created": now.Add(-time.Hour)},
	)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if b.keys, err = account.LoadKeys(path); err != nil {
		t.Fatal(err)
	}
	return b
}

// sign returns a token with this header and body.
func sign(t testing.TB, method jwt.SigningMethod, header map[string]any, body map[string]any, key any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, jwt.MapClaims(body))
	for k, v := range header {
		tok.Header[k] = v
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// good returns the body of a valid token, with changes; nil removes a claim.
func good(changes map[string]any) map[string]any {
	body := map[string]any{"sub": "alice", "exp": now.Add(time.Hour).Unix()}
	for k, v := range changes {
		if v == nil {
			delete(body, k)
		} else {
			body[k] = v
		}
	}
	return body
}

func kid(id string) map[string]any { return map[string]any{"kid": id} }

func TestVerify(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		id     string
		method jwt.SigningMethod
		key    any
	}{
		{"ed", jwt.SigningMethodEdDSA, b.ed},
		{"es", jwt.SigningMethodES256, b.es},
		{"hs", jwt.SigningMethodHS256, b.secret},
	} {
		claims, err := b.keys.Verify(sign(t, c.method, kid(c.id), good(map[string]any{"device": "phone"}), c.key), now)
		if err != nil {
			t.Errorf("%s: %v", c.id, err)
			continue
		}
		if claims.User != "alice" || claims.Device != "phone" || claims.Withdrawn.Load() || !claims.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: claims %+v", c.id, claims)
		}
	}
}

func TestVerifyTimes(t *testing.T) {
	b := newBench(t)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, c := range []struct {
		name string
		body map[string]any
		want string // in the error; empty: valid
	}{
		{"no exp", good(map[string]any{"exp": nil}), "no exp"},
		{"exp null", map[string]any{"sub": "alice", "exp": nil}, "no exp"},
		{"exp a string", good(map[string]any{"exp": "tomorrow"}), "not a JSON number"},
		{"exp far beyond", good(map[string]any{"exp": int64(1) << 50}), "out of range"},
		{"exp negative", good(map[string]any{"exp": -1}), "expired"},
		{"expired within the leeway", good(map[string]any{"exp": at(-29 * time.Second)}), ""},
		{"expired", good(map[string]any{"exp": at(-31 * time.Second)}), "expired"},
		{"begins within the leeway", good(map[string]any{"nbf": at(29 * time.Second)}), ""},
		{"begins later", good(map[string]any{"nbf": at(31 * time.Second)}), "not valid yet"},
		{"issued within the leeway", good(map[string]any{"iat": at(29 * time.Second)}), ""},
		{"issued in the future", good(map[string]any{"iat": at(31 * time.Second)}), "issued in the future"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.keys.Verify(sign(t, jwt.SigningMethodHS256, kid("hs"), c.body, b.secret), now)
			refused(t, err, c.want)
		})
	}
}

// ByTime is true only if nothing but its times is wrong with a token.
func TestByTime(t *testing.T) {
	b := newBench(t)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	expired := good(map[string]any{"exp": at(-time.Hour)})
	for _, c := range []struct {
		name   string
		body   map[string]any
		secret []byte
		want   bool
	}{
		{"expired", expired, b.secret, true},
		{"not yet", good(map[string]any{"nbf": at(time.Hour)}), b.secret, true},
		{"from the future", good(map[string]any{"iat": at(time.Hour)}), b.secret, true},
		{"all at once", good(map[string]any{"exp": at(-time.Hour), "nbf": at(time.Hour), "iat": at(time.Hour)}), b.secret, true},
		{"good", good(nil), b.secret, false},
		{"expired, and forged", expired, []byte("another secret, of thirty-two b."), false},
		{"no exp, from the future", good(map[string]any{"exp": nil, "iat": at(time.Hour)}), b.secret, false},
		{"malformed", good(map[string]any{"exp": "tomorrow"}), b.secret, false},
	} {
		_, err := b.keys.Verify(sign(t, jwt.SigningMethodHS256, kid("hs"), c.body, c.secret), now)
		if got := account.ByTime(err); got != c.want {
			t.Errorf("%s: %v, of %v", c.name, got, err)
		}
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	b := newBench(t)
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	publicDER, _ := x509.MarshalPKIXPublicKey(b.ed.Public())
	valid := sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(nil), b.ed)
	parts := strings.Split(valid, ".")

	for _, c := range []struct{ name, token, want string }{
		{"empty", "", "no token"},
		{"too long", valid + strings.Repeat("A", account.MaxTokenBytes), "longer than"},
		{"two parts", parts[0] + "." + parts[1], "malformed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature is wrong"},
		{"another signature", parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), "signature is wrong"},
		{"another body", parts[0] + "." + encoded(good(map[string]any{"sub": "mallory"})) + "." + parts[2], "signature is wrong"},
		{"alg none", sign(t, jwt.SigningMethodNone, kid("ed"), good(nil), jwt.UnsafeAllowNoneSignatureType), "not the one of its key"},
		{"alg none, no kid", sign(t, jwt.SigningMethodNone, nil, good(nil), jwt.UnsafeAllowNoneSignatureType), "none of the server's keys"},
		{"alg NoNe", encoded(map[string]any{"alg": "NoNe", "kid": "ed"}) + "." + parts[1] + ".", "alg is unknown"},
		{"no alg", encoded(map[string]any{"kid": "ed"}) + "." + parts[1] + "." + parts[2], "alg is unknown"},
		{"a public key as secret", sign(t, jwt.SigningMethodHS256, kid("ed"), good(nil), []byte(b.ed.Public().(ed25519.PublicKey))), "not the one of its key"},
		{"a public key's DER as secret", sign(t, jwt.SigningMethodHS256, kid("ed"), good(nil), publicDER), "not the one of its key"},
		{"another hash", sign(t, jwt.SigningMethodHS512, kid("hs"), good(nil), b.secret), "not the one of its key"},
		{"another key's kid", sign(t, jwt.SigningMethodEdDSA, kid("es"), good(nil), b.ed), "not the one of its key"},
		{"another key", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(nil), stranger), "signature is wrong"},
		{"an unknown kid", sign(t, jwt.SigningMethodEdDSA, kid("other"), good(nil), b.ed), "none of the server's keys"},
		{"no kid", sign(t, jwt.SigningMethodEdDSA, nil, good(nil), b.ed), "none of the server's keys"},
		{"a kid that is no string", sign(t, jwt.SigningMethodEdDSA, map[string]any{"kid": 7}, good(nil), b.ed), "none of the server's keys"},
		{"crit", sign(t, jwt.SigningMethodEdDSA, map[string]any{"kid": "ed", "crit": []string{"x"}}, good(nil), b.ed), "crit"},
		{"no sub", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(map[string]any{"sub": nil}), b.ed), "sub is no user ID"},
		{"sub with a slash", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(map[string]any{"sub": "a/b"}), b.ed), "sub is no user ID"},
		{"sub with a colon", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(map[string]any{"sub": "a:b"}), b.ed), "sub is no user ID"},
		{"a long sub", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(map[string]any{"sub": strings.Repeat("a", 65)}), b.ed), "sub is no user ID"},
		{"device with a space", sign(t, jwt.SigningMethodEdDSA, kid("ed"), good(map[string]any{"device": "a b"}), b.ed), "device is no device ID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.keys.Verify(c.token, now)
			refused(t, err, c.want)
			if c.token != "" && strings.Contains(err.Error(), c.token) {
				t.Error("the error holds the token")
			}
		})
	}
}

// refused checks that err is a refusal with want in its text, or, if want is empty,
// that it is nil.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case want == "":
	case err == nil:
		t.Fatalf("let in, want an error with %q", want)
	case pim.KindOf(err) != pim.KindUnauthorized || !strings.Contains(err.Error(), want):
		t.Errorf("error %q (%s), want unauthorized with %q", err, pim.KindOf(err), want)
	}
}

func TestIssue(t *testing.T) {
	b := newBench(t)
	for _, user := range []pim.UserID{"alice", "[]\\`_^{|}-", `a"b'c`, "王小明", "a.b@c", "🙂"} {
		token, err := b.keys.Issue(user, time.Hour, now)
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		claims, err := b.keys.Verify(token, now)
		if err != nil || claims.User != user || !claims.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: claims %+v, %v", user, claims, err)
		}
		if header := headerOf(t, token); header["kid"] != "hs" {
			t.Errorf("signed by %v, want the newest key, hs", header["kid"])
		}
	}
	for _, c := range []struct {
		user pim.UserID
		ttl  time.Duration
	}{{"", time.Hour}, {"a b", time.Hour}, {"alice", 0}, {"alice", -time.Hour}, {"alice", time.Millisecond}} {
		if _, err := b.keys.Issue(c.user, c.ttl, now); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("Issue(%q, %s): %v, want invalid", c.user, c.ttl, err)
		}
	}
}

func TestIssueWithoutPrivatePart(t *testing.T) {
	_, path := developmentKeys(t)
	r := record(t, path)
	delete(r, "private")
	if err := os.WriteFile(path, []byte(file(t, r)), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := account.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Issue("alice", time.Hour, now); keys.CanIssue() || pim.KindOf(err) != pim.KindUnsupported {
		t.Errorf("CanIssue %v, Issue: %v; want false, unsupported", keys.CanIssue(), err)
	}
}

func FuzzVerify(f *testing.F) {
	b := newBench(f)
	valid := sign(f, jwt.SigningMethodEdDSA, kid("ed"), good(nil), b.ed)
	f.Add(valid)
	f.Add(sign(f, jwt.SigningMethodHS256, kid("hs"), good(map[string]any{"nbf": now.Unix(), "device": "d"}), b.secret))
	f.Add(sign(f, jwt.SigningMethodNone, kid("ed"), good(nil), jwt.UnsafeAllowNoneSignatureType))
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := b.keys.Verify(token, now)
		if err != nil {
			if pim.KindOf(err) != pim.KindUnauthorized {
				t.Fatalf("error %v of kind %s", err, pim.KindOf(err))
			}
			return
		}
		// The fuzzer has no key: only a seed can be valid.
		if claims.User != "alice" || claims.Expires.Before(now.Add(-account.Leeway)) {
			t.Fatalf("%q was let in: %+v", token, claims)
		}
	})
}

func encoded(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of plain values only
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func headerOf(t *testing.T, token string) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.SplitN(token, ".", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]any
	if err := json.Unmarshal(data, &header); err != nil {
		t.Fatal(err)
	}
	return header
}

func public(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func private(t testing.TB, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}
