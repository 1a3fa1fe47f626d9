package account_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

// An error about a key names the key and what was expected, and holds nothing of a
// secret.
func TestErrorsAboutKeys(t *testing.T) {
	_, path := developmentKeys(t)
	dev := record(t, path)
	b64 := base64.StdEncoding.EncodeToString
	framed := func(kind string, b64der any) string {
		der, err := base64.StdEncoding.DecodeString(b64der.(string))
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	bare, err := base64.StdEncoding.DecodeString(dev["public"].(string))
	if err != nil {
		t.Fatal(err)
	}
	certificate := certificateOf(t, ec)

	ed := func(field string, v any) map[string]any {
		r := map[string]any{}
		for k, old := range dev {
			r[k] = old
		}
		r["id"], r[field] = "app", v
		return r
	}
	hs := func(secret string) map[string]any {
		return map[string]any{"id": "app", "alg": "HS256", "secret": secret}
	}
	es := func(public, private string) map[string]any {
		return map[string]any{"id": "app", "alg": "ES256", "public": public, "private": private}
	}
	noPadding := strings.TrimRight(b64(bytes.Repeat([]byte("Zr8!"), 8)), "=")
	for _, c := range []struct {
		name string
		key  map[string]any
		want string
	}{
		{"public in a PEM frame", ed("public", framed("PUBLIC KEY", dev["public"])), "its public part has the BEGIN and END lines of a PEM file"},
		{"private in a PEM frame", ed("private", framed("PRIVATE KEY", dev["private"])), "its private part has the BEGIN and END lines"},
		{"base64url", ed("public", base64.RawURLEncoding.EncodeToString([]byte{0xfb, 0xff, 0xfe})), "its public part is base64url"},
		{"spaces", ed("public", "correct horse"), "has spaces in it"},
		{"no base64", ed("public", "(secret)"), "is not base64"},
		{"a bare key", ed("public", b64(bare[12:])), "has 32 bytes, as a bare Ed25519 key"},
		{"the private part as public", ed("public", dev["private"]), "its public part is a private key, not a PKIX public key"},
		{"a certificate", es(b64(certificate), ""), "its public part is a certificate"},
		{"the public part as private", ed("private", dev["public"]), "its private part is a public key, not a PKCS #8"},
		{"SEC 1", es(public(t, ec.Public()), b64(sec1)), "its private part is SEC 1 (BEGIN EC PRIVATE KEY)"},
		{"RSA", es(public(t, rsaPublic), ""), "its public part is of RSA; alg ES256 takes P-256"},
		{"another curve", es(public(t, p384.Public()), ""), "its public part is of P-384; alg ES256 takes P-256"},
		{"created a day", ed("created", "2026-11-20"), `created is "2026-11-20"; a time such as 2026-11-20T12:00:00Z is expected`},
		{"created a number", ed("created", 1763640000), "a number stands where a string is expected in /created"},
		{"a misspelt field", ed("pubic", "x"), `unknown field "pubic"`},
		{"alg in other letters", ed("alg", "eddsa"), `alg "eddsa" is none of EdDSA, ES256, HS256`},
		{"no = at the end", hs(noPadding), "its secret is base64 without the ="},
		{"a hexadecimal secret", hs(strings.Repeat("0123456789abcdef", 4)), "its secret is hexadecimal"},
		{"a passphrase", hs("correcthorsebatterystaplecorrecthorsebattery"), "its secret is text that happens to be base64"},
		{"a passphrase in camel case", hs("CorrectHorseBatteryStapleCorrectHorseBattery"), "its secret is text that happens to be base64"},
		{"a passphrase with digits", hs("hunter2hunter2hunter2hunter2hunter2hunter2hu"), "its secret is text that happens to be base64"},
		{"a passphrase in capitals", hs("CORRECT1HORSE2BATTERY3STAPLE4CORRECT5HORSE66"), "its secret is text that happens to be base64"},
		{"a passphrase in words", hs("correct horse battery staple correct horse battery staple"), "its secret has spaces"},
		{"a short secret", hs(b64([]byte("0123456789"))), "its secret has 10 bytes, shorter than 32"},
		{"a JWK", map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "app"}, "it is in the form of a JWK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(file(t, dev, c.key)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := account.LoadKeys(path)
			if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want invalid with %q", err, c.want)
			}
			named := `key 2 ("app"): `
			if c.key["id"] == nil {
				named = "key 2: "
			}
			if !strings.Contains(err.Error(), path+": "+named) {
				t.Errorf("error %q does not name the file and the key", err)
			}
			if n := strings.Count(err.Error(), "(invalid)"); n != 1 {
				t.Errorf("error %q says its kind %d times", err, n)
			}
			for _, part := range []any{dev["private"], c.key["private"], c.key["secret"]} {
				if s, _ := part.(string); s != "" && strings.Contains(err.Error(), s) {
					t.Errorf("error %q holds a secret", err)
				}
			}
		})
	}
}

// An error about a file in another format names the format.
func TestOtherFiles(t *testing.T) {
	_, path := developmentKeys(t)
	for _, c := range []struct{ name, content, want string }{
		{"PEM", "-----BEGIN PUBLIC KEY-----\n" + record(t, path)["public"].(string) + "\n-----END PUBLIC KEY-----\n", "it is a PEM file"},
		{"a JWK", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "it is in the form of a JWK"},
		{"a JWKS", `{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b","kid":"app"}]}`, "it is in the form of a JWK"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := account.LoadKeys(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// LoadKeys accepts the file that the page about keys shows.
func TestDocument(t *testing.T) {
	page, err := os.ReadFile("../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/keys.md has no example")
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	if keys, err := account.LoadKeys(path); err != nil || keys.Len() != 2 || keys.CanIssue() {
		t.Errorf("%+v, %v", keys, err)
	}
}

// Secrets as openssl rand -base64 32 prints them are never mistaken for text.
func TestRandomSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	for range 500 {
		secret := make([]byte, 32)
		rand.Read(secret)
		content := file(t, map[string]any{"id": "app", "alg": "HS256", "secret": base64.StdEncoding.EncodeToString(secret)})
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := account.LoadKeys(path); err != nil || len(keys.Warnings()) > 0 {
			t.Fatalf("%s: %v", content, err)
		}
	}
	content := file(t, map[string]any{"id": "app", "alg": "HS256", "secret": "Password1Password1Password1Password1Password"})
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := account.LoadKeys(path)
	if err != nil || len(keys.Warnings()) != 1 || !strings.Contains(keys.Warnings()[0], `key 1 ("app")`) || strings.Contains(keys.Warnings()[0], "Password1") {
		t.Errorf("a secret that repeats itself: %v", err)
	}
}

func certificateOf(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
