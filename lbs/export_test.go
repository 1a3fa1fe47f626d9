package lbs

import (
	"math/rand/v2"

	"github.com/golang-jwt/jwt/v5"
)

// Durations, for tests.
const (
	ExpectFor = expectFor
	Remember  = remember
)

// NewForgetful returns a Balancer with a defect: it forgets what it has assigned.
func NewForgetful(r *rand.Rand) *Balancer { return NewBroken(r, Forgets) }

// NewTrusting returns a Balancer with a defect: it gives places to whoever asks.
func NewTrusting(r *rand.Rand) *Balancer { return NewBroken(r, Trusts) }

// NewHasty returns a Balancer with a defect: it has all who wait come back at once.
func NewHasty(r *rand.Rand) *Balancer { return NewBroken(r, NoWindows) }

// Resign returns what l has signed, signed with the same key, with another typ.
func (l *Signer) Resign(signed, typ string) (string, error) {
	var c claims
	if _, _, err := l.parser.ParseUnverified(signed, &c); err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["typ"] = typ
	return t.SignedString(l.key)
}
