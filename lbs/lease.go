package lbs

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxSignedBytes is the length of the longest lease or ticket that a Signer looks at.
	MaxSignedBytes = 1 << 10
	// MinSecretBytes is the length of the shortest secret of a Signer: that of the hash, as RFC 7518,
	// section 3.2 asks for.
	MinSecretBytes = 32
	// Leeway is how far the clocks of an LBS and a gateway may differ: a lease is valid for this long before it was
	// issued, and after it has expired. Tickets likewise.
	Leeway = 30 * time.Second
	// MaxTicketTime is for how long tickets stand in for the access token that the first of them was given for.
	MaxTicketTime = 2 * MaxWindow

	// The typ of what is signed (RFC 8725, section 3.11): one is not taken for the other, and nothing else for either.
	leaseType  = "pim-lease+jwt"
	ticketType = "pim-ticket+jwt"
)

// Lease says that an LBS has given a user a place on a gateway.
type Lease struct {
	User     pim.UserID
	Gateways []string // names of the nodes that the user may dial
	Expires  time.Time
}

// Ticket says that a client was told to come back, and who its user is. With it the client asks again, even if its
// access token has expired meanwhile. No gateway takes it.
type Ticket struct {
	User    pim.UserID
	Shown   time.Time // when the client showed its access token
	Expires time.Time // Issue makes it Shown + MaxTicketTime if it is later
}

// Signer signs and checks leases and tickets. It may be used concurrently.
//
// Both are a JWT (RFC 7519) signed with HMAC SHA-256, with the claims sub (the user), iat and exp. A lease has aud as
// well (the gateways), and a ticket auth_time.
type Signer struct {
	key    []byte
	parser *jwt.Parser
}

// NewSigner returns the Signer of all nodes that have the same secret. The secret is random bytes that are used for
// nothing else: whoever has a lease can try out secrets, as fast as it likes, and whoever finds the secret can make leases.
// The error is a *pim.Error of KindInvalid if it has fewer than MinSecretBytes.
func NewSigner(secret []byte) (*Signer, error) {
	if len(secret) < MinSecretBytes {
		return nil, pim.Errorf(pim.KindInvalid, "the secret of leases has %d bytes, fewer than %d", len(secret), MinSecretBytes)
	}
	return &Signer{key: slices.Clone(secret), parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithoutClaimsValidation(), // open does it, at the time that it is given
		jwt.WithStrictDecoding(),      // one signature has one spelling
	)}, nil
}

// claims are the body of a lease or a ticket.
type claims struct {
	Shown *jwt.NumericDate `json:"auth_time,omitempty"` // as in OpenID Connect Core, section 2
	jwt.RegisteredClaims
}

// IssueLease returns the signed form of a lease. The error is a *pim.Error of KindInvalid if the lease names no
// user or no gateway, or would be longer than MaxSignedBytes.
func (s *Signer) IssueLease(l Lease, now time.Time) (string, error) {
	if len(l.Gateways) == 0 {
		return "", pim.Errorf(pim.KindInvalid, "a lease for no gateway")
	}
	return s.sign(leaseType, l.User, now, l.Expires, claims{RegisteredClaims: jwt.RegisteredClaims{Audience: l.Gateways}})
}

// IssueTicket returns the signed form of a ticket. The error is a *pim.Error of KindInvalid if the ticket names no
// user, or would be longer than MaxSignedBytes.
func (s *Signer) IssueTicket(t Ticket, now time.Time) (string, error) {
	expires := t.Expires
	if last := t.Shown.Add(MaxTicketTime); last.Before(expires) {
		expires = last
	}
	return s.sign(ticketType, t.User, now, expires, claims{Shown: jwt.NewNumericDate(t.Shown)})
}

func (s *Signer) sign(typ string, user pim.UserID, now, expires time.Time, c claims) (string, error) {
	if user == "" {
		return "", pim.Errorf(pim.KindInvalid, "a lease or a ticket for no user")
	}
	c.Subject, c.IssuedAt, c.ExpiresAt = string(user), jwt.NewNumericDate(now), jwt.NewNumericDate(expires)
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["typ"] = typ
	signed, err := t.SignedString(s.key)
	if err != nil {
		return "", pim.Errorf(pim.KindInternal, "sign a lease or a ticket: %w", err)
	}
	if len(signed) > MaxSignedBytes {
		return "", pim.Errorf(pim.KindInvalid, "a lease or a ticket has %d bytes, more than %d", len(signed), MaxSignedBytes)
	}
	return signed, nil
}

// The reasons why a lease or a ticket is refused. Each error of CheckLease and OpenTicket is one of them by errors.Is, and
// a *pim.Error of KindForbidden: the client may ask an LBS for another.
var (
	ErrNoLease = errors.New("no lease was given")
	ErrForged  = errors.New("it was not signed by an LBS of this system")
	ErrExpired = errors.New("it has expired, or begins in the future")
	ErrForeign = errors.New("it is for other gateways or another user")
)

// Reason returns the name of the reason in err, as in metrics; "" if there is none.
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

// CheckLease checks a lease that a user gives to a gateway at the time now.
func (s *Signer) CheckLease(lease, gateway string, user pim.UserID, now time.Time) error {
	if lease == "" {
		return refusal(ErrNoLease)
	}
	c, err := s.open(lease, leaseType, now)
	if err != nil {
		return err
	}
	if !slices.Contains(c.Audience, gateway) || c.Subject != string(user) {
		return refusal(ErrForeign)
	}
	return nil
}

// OpenTicket checks a ticket at the time now and returns what it says.
func (s *Signer) OpenTicket(ticket string, now time.Time) (Ticket, error) {
	c, err := s.open(ticket, ticketType, now)
	if err != nil {
		return Ticket{}, err
	}
	if c.Shown == nil {
		return Ticket{}, refusal(ErrForged)
	}
	return Ticket{User: pim.UserID(c.Subject), Shown: c.Shown.Time, Expires: c.ExpiresAt.Time}, nil
}

// open returns the claims of what was signed with the given typ, and is valid now.
func (s *Signer) open(signed, typ string, now time.Time) (claims, error) {
	if len(signed) > MaxSignedBytes || strings.ContainsAny(signed, "\r\n") {
		return claims{}, refusal(ErrForged)
	}
	var c claims
	t, err := s.parser.ParseWithClaims(signed, &c, func(*jwt.Token) (any, error) { return s.key, nil })
	if err != nil || t.Header["typ"] != typ || c.Subject == "" || c.IssuedAt == nil || c.ExpiresAt == nil {
		return claims{}, refusal(ErrForged)
	}
	if now.After(c.ExpiresAt.Add(Leeway)) || now.Before(c.IssuedAt.Add(-Leeway)) {
		return claims{}, refusal(ErrExpired)
	}
	return c, nil
}

func refusal(why error) error {
	return &pim.Error{Kind: pim.KindForbidden, Text: why.Error() + "; ask an LBS for another", RetryAfter: MinWindow, Err: why}
}
