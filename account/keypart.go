package account

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// The errors in this file continue a sentence that begins with "its public part" or the
// like.

// decodeBase64 reads base64 with or without the line breaks of a PEM file.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("\n", "", "\r", "").Replace(s)
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	switch {
	case s == "":
		return nil, errors.New("is missing")
	case err == nil:
		return data, nil
	case strings.Contains(s, "-----BEGIN"):
		return nil, errors.New("has the BEGIN and END lines of a PEM file; only the base64 between them is expected")
	case strings.ContainsAny(s, "-_"):
		return nil, errors.New("is base64url, with - and _; the standard alphabet, with + and /, is expected")
	case strings.ContainsFunc(s, unicode.IsSpace):
		return nil, errors.New("has spaces in it; base64 is expected")
	case len(s)%4 != 0:
		if _, err := base64.RawStdEncoding.DecodeString(s); err == nil {
			return nil, errors.New("is base64 without the = at its end, which are expected")
		}
	}
	return nil, errors.New("is not base64")
}

// decodePublic reads a PKIX public key.
func decodePublic(s string) (any, error) {
	der, err := decodeBase64(s)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err == nil {
		return public, nil
	}
	what := "is not"
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		what = "is a private key, not"
	} else if _, err := x509.ParseCertificate(der); err == nil {
		what = "is a certificate, not"
	} else if len(der) == ed25519.PublicKeySize {
		what = "has 32 bytes, as a bare Ed25519 key, and is not"
	}
	return nil, fmt.Errorf("%s a PKIX public key, as openssl pkey -pubout prints it", what)
}

// decodePrivate reads a PKCS #8 private key.
func decodePrivate(s string) (any, error) {
	der, err := decodeBase64(s)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return private, nil
	}
	what := "is not"
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		what = "is SEC 1 (BEGIN EC PRIVATE KEY), not"
	} else if _, err := x509.ParsePKIXPublicKey(der); err == nil {
		what = "is a public key, not"
	}
	return nil, fmt.Errorf("%s a PKCS #8 private key without a passphrase, as openssl genpkey prints it", what)
}

// decodeSecret reads base64 of at least minSecret random bytes.
func decodeSecret(s string) ([]byte, error) {
	secret, err := decodeBase64(s)
	switch {
	case err != nil:
		return nil, err
	case len(secret) < minSecret:
		return nil, fmt.Errorf("has %d bytes, shorter than 32", len(secret))
	case isHex(s):
		return nil, errors.New("is hexadecimal, and would be read as base64 of other bytes")
	case isWords(s):
		return nil, errors.New("is text that happens to be base64, as of a passphrase, which can be guessed")
	}
	return secret, nil
}

// isHex reports whether s, which is base64 of 32 bytes or more, was meant as
// hexadecimal. Random base64 of this length looks like it once in 10^25.
func isHex(s string) bool {
	lower := strings.ToLower(s)
	return (s == lower || s == strings.ToUpper(s)) && strings.Trim(lower, "0123456789abcdef") == ""
}

// isWords reports whether s, which is base64 of 32 bytes or more, looks written by a
// person: its letters are all of one case, or it has only letters, fewer than 20
// different ones. Random base64 of this length is of one case once in 10^9; it has only
// letters once in 10,000, and only letters of so few sorts once in 10^8.
func isWords(s string) bool {
	s = strings.TrimRight(s, "=\r\n")
	if s == strings.ToLower(s) || s == strings.ToUpper(s) {
		return true
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }) && sorts(s) < 20
}

// isDull reports whether s, which is base64 of 32 bytes or more, repeats a few
// characters, as random base64 does not.
func isDull(s string) bool { return sorts(s) < 16 }

// sorts returns how many different characters s has: about 31 if it is 43 random ones.
func sorts(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// sortOf names the sort of a public key.
func sortOf(public any) string {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdsa.PublicKey:
		return p.Curve.Params().Name
	case *rsa.PublicKey:
		return "RSA"
	}
	return "another sort"
}
