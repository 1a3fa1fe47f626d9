package account

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	minSecret   = 32 // bytes in an HS256 secret: as many as the hash gives
	maxKeyIDLen = 64
	maxExpected = 256 // bytes of an issuer or an audience
)

// keyRecord is one key in the file.
type keyRecord struct {
	ID          string `json:"id"`                    // the token's kid; at most 64 bytes
	Alg         string `json:"alg"`                   // EdDSA (Ed25519), ES256 or HS256
	Public      string `json:"public,omitempty"`      // EdDSA, ES256: PKIX, base64
	Private     string `json:"private,omitempty"`     // EdDSA, ES256: PKCS #8, base64; only to issue
	Secret      string `json:"secret,omitempty"`      // HS256: at least 32 bytes, base64
	Issuer      string `json:"issuer,omitempty"`      // the iss that tokens must have
	Audience    string `json:"audience,omitempty"`    // what must be among their aud
	Created     string `json:"created,omitempty"`     // RFC 3339; of several keys, the newest issues
	Development bool   `json:"development,omitempty"` // made by CreateDevelopmentKey
}

// key checks a record and turns it into a key. Its errors say what was expected, and
// hold nothing of a private part.
func (r *keyRecord) key() (*key, error) {
	if r.ID == "" || len(r.ID) > maxKeyIDLen {
		return nil, errors.New("its id must have 1 to 64 bytes")
	}
	if len(r.Issuer) > maxExpected || len(r.Audience) > maxExpected {
		return nil, fmt.Errorf("its issuer or audience has more than %d bytes", maxExpected)
	}
	k := &key{id: r.ID, issuer: r.Issuer, audience: r.Audience, development: r.Development, withdrawn: new(atomic.Bool)}
	if r.Created != "" {
		var err error
		if k.created, err = time.Parse(time.RFC3339, r.Created); err != nil {
			return nil, fmt.Errorf("created is %q; a time such as 2026-11-20T12:00:00Z is expected", r.Created)
		}
	}
	switch r.Alg {
	case "EdDSA":
		k.method = jwt.SigningMethodEdDSA
	case "ES256":
		k.method = jwt.SigningMethodES256
	case "HS256":
		k.method = jwt.SigningMethodHS256
		return k, r.symmetric(k)
	default:
		return nil, fmt.Errorf("alg %q is none of EdDSA, ES256, HS256", r.Alg)
	}
	return k, r.asymmetric(k)
}

func (r *keyRecord) symmetric(k *key) error {
	if r.Public != "" || r.Private != "" {
		return errors.New("an HS256 key has a secret, no public or private part")
	}
	secret, err := decodeSecret(r.Secret)
	if err != nil {
		return fmt.Errorf("its secret %w; make one with: openssl rand -base64 32", err)
	}
	k.verify, k.sign, k.dull = secret, secret, isDull(r.Secret)
	return nil
}

func (r *keyRecord) asymmetric(k *key) error {
	if r.Secret != "" {
		return errors.New("only an HS256 key has a secret")
	}
	public, err := decodePublic(r.Public)
	if err != nil {
		return fmt.Errorf("its public part %w", err)
	}
	if !fits(r.Alg, public) {
		return fmt.Errorf("its public part is of %s; alg %s takes %s", sortOf(public), r.Alg, taken(r.Alg))
	}
	k.verify = public
	if r.Private == "" {
		return nil
	}
	if k.sign, err = decodePrivate(r.Private); err != nil {
		return fmt.Errorf("its private part %w", err)
	}
	if !belongs(k.sign, k.verify) {
		return errors.New("its private part does not belong to its public part")
	}
	return nil
}

// fits reports whether a public key can be used with alg.
func fits(alg string, public any) bool {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *ecdsa.PublicKey:
		return alg == "ES256" && p.Curve == elliptic.P256()
	}
	return false
}

// taken names the sort of public key that fits alg.
func taken(alg string) string {
	if alg == "ES256" {
		return "P-256"
	}
	return "Ed25519"
}

// belongs reports whether private's public part is public.
func belongs(private, public any) bool {
	switch p := private.(type) {
	case ed25519.PrivateKey:
		return p.Public().(ed25519.PublicKey).Equal(public)
	case *ecdsa.PrivateKey:
		return p.PublicKey.Equal(public)
	}
	return false
}
