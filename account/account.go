// Package account decides who a connection belongs to. Users are not stored:
// the app that embeds pim names them, and proves it with a token that one of
// the server's keys has signed.
//
// A token is a JWT (RFC 7519) with these claims:
//
//	sub     the user ID; required
//	exp     when the token ends; required
//	nbf     when it begins; optional, honoured
//	iat     when it was issued; optional, must not lie in the future
//	device  if present, the only device that may use the token
//	iss     who issued it; checked if its key has an issuer
//	aud     whom it is for, one or several; checked if its key has an audience
//	jti     the token's ID, by which it can be revoked; optional, 1 to 256 bytes
//
// Names of claims are exact, each stands once, and claims of other names are ignored. A
// token whose JSON is not strict (RFC 7493) is refused. A token's header names the key
// ("kid"). The key, not the token, says which algorithm checks the signature: a token
// that names another is refused, so that neither "none" nor a public key taken for a
// shared secret gets in.
//
// Keys come from a file that LoadKeys reads, described in docs/keys.md. A Keyring
// replaces them when the file has changed.
package account

import (
	"crypto"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxTokenBytes is the length of the longest token that Verify looks at.
	MaxTokenBytes = 8 << 10
	// MaxTokenID is how many bytes a token's jti has at most.
	MaxTokenID = 256
	// Leeway is how far the clocks of the issuer of a token and of the server may
	// differ: a token is valid for this long before its nbf and its iat, and after
	// its exp.
	Leeway = 30 * time.Second
)

// Keys are the keys of one server. They never change, and may be used concurrently.
type Keys struct {
	path     string
	content  []byte   // of the file
	warnings []string // see Warnings
	byID     map[string]*key
	issuer   *key // newest key that can sign; nil if none can
}

// key is one key with the only algorithm it is used with.
type key struct {
	id          string
	method      jwt.SigningMethod
	verify      crypto.PublicKey  // ed25519.PublicKey, *ecdsa.PublicKey or []byte
	sign        crypto.PrivateKey // nil if the key can only verify
	created     time.Time
	issuer      string // the iss that tokens must have; empty: any
	audience    string // what must be among their aud; empty: any
	development bool
	dull        bool         // its secret does not look random
	withdrawn   *atomic.Bool // see Claims
}

// Claims are what a valid token says.
type Claims struct {
	User    pim.UserID
	Device  pim.DeviceID // the only device that may use the token; empty: any
	ID      string       // the token's own, its jti; empty: it has none
	Issued  time.Time    // its iat, in full seconds; zero: it does not say
	Expires time.Time    // the connection must end then, or at most Leeway later
	// Withdrawn turns true when the key that signed the token has left the key file, or
	// another key has taken its ID there: the connection must end then. Nil: never.
	Withdrawn *atomic.Bool
}

// Development reports whether one of the keys was made by CreateDevelopmentKey. The
// private part of such a key lies in the server's data directory: anyone who reads it
// can be any user.
func (k *Keys) Development() bool {
	for _, key := range k.byID {
		if key.development {
			return true
		}
	}
	return false
}

// IssuesForDevelopment reports whether Issue signs with a key that CreateDevelopmentKey made,
// and not with one that somebody has put there for an app.
func (k *Keys) IssuesForDevelopment() bool { return k.issuer != nil && k.issuer.development }

// Warnings returns what is dangerous about the key file although it was accepted. The
// warnings hold nothing of a secret.
func (k *Keys) Warnings() []string { return k.warnings }

// signs reports whether anyone who reads the key file can sign tokens.
func (k *Keys) signs() bool { return k.issuer != nil }

// CanIssue reports whether Issue can work: one of the keys has its private part.
func (k *Keys) CanIssue() bool { return k.issuer != nil }

// Len returns the number of keys.
func (k *Keys) Len() int { return len(k.byID) }
