package lbs

import (
	"math/rand/v2"

	"github.com/golang-jwt/jwt/v5"
)

// NewForgetful returns a Balancer with a defect: it forgets what it has assigned.
func NewForgetful(r *rand.Rand) *Balancer {
	b := New(r)
	b.forgets = true
	return b
}

// Resign returns a lease's claims, signed with the same key, with another typ.
func (l *Leases) Resign(lease, typ string) (string, error) {
	var c claims
	if _, _, err := l.parser.ParseUnverified(lease, &c); err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["typ"] = typ
	return t.SignedString(l.key)
}
