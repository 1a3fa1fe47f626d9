package lbs

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxLeaseBytes is the length of the longest lease that Leases.Verify looks at.
	MaxLeaseBytes = 1 << 10
	// Leeway is how far the clocks of an LBS and a gateway may differ: a lease is valid for this long before it was
	// issued, and after it has expired.
	Leeway = 30 * time.Second

	// leaseType is the lease's typ (RFC 8725, section 3.11): nothing else that is signed is taken for a lease.
	leaseType = "pim-lease+jwt"
	// leaseInfo sets the key apart from others that are made of the same secret.
	leaseInfo = "pim lease v1"
	// leaseKeyBytes is the length of the key: that of the hash, as RFC 7518, section 3.2 asks for.
	leaseKeyBytes = sha256.Size

	// The client's network is this many bits of its address: what one customer of a provider has at least.
	bitsIPv4 = 24
	bitsIPv6 = 48
)

// Lease says that an LBS has assigned a client to a gateway.
type Lease struct {
	Gateways []string // names of the nodes that the client may dial
	Expires  time.Time
	// Network is where the client was when it asked, see Network; not valid: not known.
	Network netip.Prefix
	User    pim.UserID // who asked; empty: not known
}

// Network returns the network that an address is in, as a lease names it: /24 of IPv4 and /48 of IPv6. It is not
// valid if address is not.
func Network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := bitsIPv6
	if address.Is4() {
		bits = bitsIPv4
	}
	p, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Leases signs and checks leases. It may be used concurrently.
//
// A lease is a JWT (RFC 7519) signed with HMAC SHA-256, with the claims aud (the gateways), iat, exp, and where they
// are known sub (the user) and net (the network). It is no token: its key and its typ are others.
type Leases struct {
	key    []byte
	parser *jwt.Parser
}

// NewLeases returns the Leases of all nodes that have the same secret, which is one that can't be guessed. An
// empty one is replaced by random bytes: such leases are good for this process only.
func NewLeases(secret string) (*Leases, error) {
	material := []byte(secret)
	if secret == "" {
		material = make([]byte, leaseKeyBytes)
		rand.Read(material) // never fails
	}
	key, err := hkdf.Key(sha256.New, material, nil, leaseInfo, leaseKeyBytes)
	if err != nil {
		return nil, pim.Errorf(pim.KindInternal, "make the key of leases: %w", err)
	}
	return &Leases{key: key, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithoutClaimsValidation(), // Verify does it, at the time that it is given
		jwt.WithStrictDecoding(),
	)}, nil
}

// claims are a lease's body.
type claims struct {
	Network string `json:"net,omitempty"`
	jwt.RegisteredClaims
}

// Issue returns the signed form of a lease. The error is a *pim.Error of KindInvalid if it would be longer
// than MaxLeaseBytes.
func (l *Leases) Issue(lease Lease, now time.Time) (string, error) {
	c := claims{RegisteredClaims: jwt.RegisteredClaims{
		Subject: string(lease.User), Audience: lease.Gateways, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(lease.Expires),
	}}
	if lease.Network.IsValid() {
		c.Network = lease.Network.Masked().String()
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["typ"] = leaseType
	signed, err := t.SignedString(l.key)
	if err != nil {
		return "", pim.Errorf(pim.KindInternal, "sign a lease: %w", err)
	}
	if len(signed) > MaxLeaseBytes {
		return "", pim.Errorf(pim.KindInvalid, "the lease has %d bytes, more than %d", len(signed), MaxLeaseBytes)
	}
	return signed, nil
}

// The reasons why Verify refuses a lease. Each error of Verify is one of them by errors.Is, and a *pim.Error of
// KindForbidden: the client may ask an LBS for another.
var (
	ErrNoLease = errors.New("no lease was given")
	ErrForged  = errors.New("the lease was not signed by an LBS of this system")
	ErrExpired = errors.New("the lease has expired, or begins in the future")
	ErrForeign = errors.New("the lease is for other gateways, another user or another network")
)

// Reason returns the name of the reason why Verify has refused a lease, as in metrics; "" if err is none of its errors.
func Reason(err error) string {
	for _, r := range []struct {
		is   error
		name string
	}{{ErrNoLease, "missing"}, {ErrForged, "forged"}, {ErrExpired, "expired"}, {ErrForeign, "foreign"}} {
		if errors.Is(err, r.is) {
			return r.name
		}
	}
	return ""
}

// Verify checks a lease that a client at the address from, who is user, gives to a gateway at the time now. An
// address that is not valid is not compared with the lease's network, and neither is one of the other version of IP: a client with
// both may reach the LBS by one and the gateway by the other.
func (l *Leases) Verify(lease, gateway string, user pim.UserID, from netip.Addr, now time.Time) error {
	switch {
	case lease == "":
		return refusal(ErrNoLease)
	case len(lease) > MaxLeaseBytes, strings.ContainsAny(lease, "\r\n"):
		return refusal(ErrForged)
	}
	var c claims
	t, err := l.parser.ParseWithClaims(lease, &c, func(*jwt.Token) (any, error) { return l.key, nil })
	if err != nil || t.Header["typ"] != leaseType || c.IssuedAt == nil || c.ExpiresAt == nil {
		return refusal(ErrForged)
	}
	if now.After(c.ExpiresAt.Add(Leeway)) || now.Before(c.IssuedAt.Add(-Leeway)) {
		return refusal(ErrExpired)
	}
	if !slices.Contains(c.Audience, gateway) || c.Subject != "" && c.Subject != string(user) || !within(c.Network, from) {
		return refusal(ErrForeign)
	}
	return nil
}

// within reports whether from may be in the network of a lease.
func within(network string, from netip.Addr) bool {
	if network == "" || !from.IsValid() {
		return true
	}
	p, err := netip.ParsePrefix(network)
	from = from.Unmap().WithZone("")
	return err == nil && (p.Addr().Is4() != from.Is4() || p.Contains(from))
}

func refusal(why error) error {
	return &pim.Error{Kind: pim.KindForbidden, Text: why.Error() + "; ask an LBS for another", RetryAfter: MinWindow, Err: why}
}
