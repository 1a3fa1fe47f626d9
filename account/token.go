package account

import (
	"errors"
	"strings"
	"time"

	"github.com/pim-im/pim"

	"github.com/golang-jwt/jwt/v5"
)

// maxExpiry keeps exp within what a JSON time can say. It is the start of the
// year 10000.
var maxExpiry = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// Verify checks a token at the time now and returns what it says. Every error
// is a *pim.Error of KindUnauthorized; its text holds neither the token nor a
// key's content, so it may be logged and sent to the client.
func (k *Keys) Verify(token string, now time.Time) (Claims, error) {
	if token == "" {
		return Claims{}, unauthorized("no token was given", nil)
	}
	if len(token) > MaxTokenBytes {
		return Claims{}, unauthorized("the token is longer than 8 KiB", nil)
	}
	if err := checkForm(token); err != nil {
		return Claims{}, err
	}
	var body tokenClaims
	var signer *key
	_, err := jwt.NewParser(
		jwt.WithTimeFunc(func() time.Time { return now }),
		jwt.WithLeeway(Leeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithStrictDecoding(), // one signature has one spelling
	).ParseWithClaims(token, &body, func(t *jwt.Token) (any, error) {
		var err error
		if signer, err = k.keyFor(t); err != nil {
			return nil, err
		}
		return signer.verify, nil
	})
	if err != nil {
		return Claims{}, refusal(err)
	}
	if err := signer.expects(&body); err != nil {
		return Claims{}, err
	}
	claims, err := body.claims()
	claims.Withdrawn = signer.withdrawn
	return claims, err
}

// ByTime reports whether err, from Verify, refuses a token only for its times: the
// signature is right, and at another time the token would be, or would have been, valid.
func ByTime(err error) bool {
	return errors.Is(err, jwt.ErrTokenInvalidClaims) && !errors.Is(err, jwt.ErrTokenRequiredClaimMissing) &&
		(errors.Is(err, jwt.ErrTokenExpired) || errors.Is(err, jwt.ErrTokenNotValidYet) || errors.Is(err, jwt.ErrTokenUsedBeforeIssued))
}

// The texts of refusals that ByTime is true for. They cross the wire.
const (
	textExpired = "the token has expired"
	textNotYet  = "the token is not valid yet"
	textFuture  = "the token was issued in the future"
)

// SaysTime reports whether err, which came over the wire, is a refusal for which ByTime
// is true on the server.
func SaysTime(err error) bool {
	var e *pim.Error
	if !errors.As(err, &e) || e.Kind != pim.KindUnauthorized {
		return false
	}
	for _, text := range []string{textExpired, textNotYet, textFuture} {
		if strings.Contains(e.Text, text) {
			return true
		}
	}
	return false
}

// keyFor returns the key that checks t. It pins the algorithm: package jwt has set
// t.Method from the token's header, and uses it after keyFor returns.
func (k *Keys) keyFor(t *jwt.Token) (*key, error) {
	id, _ := t.Header["kid"].(string)
	key := k.byID[id]
	if key == nil {
		return nil, errUnknownKey
	}
	if t.Method == nil || t.Method.Alg() != key.method.Alg() {
		return nil, errOtherAlgorithm
	}
	if _, ok := t.Header["crit"]; ok { // RFC 7515, 4.1.11: not understood, so refused
		return nil, errCritical
	}
	t.Method = key.method
	return key, nil
}

// Issue returns a token that lets user in from now until ttl later, signed with
// the newest key that has its private part.
func (k *Keys) Issue(user pim.UserID, ttl time.Duration, now time.Time) (string, error) {
	if err := user.Validate(); err != nil {
		return "", err
	}
	// NumericDate has whole seconds: a token with a shorter life may have expired when it
	// is issued.
	if ttl < time.Second {
		return "", pim.Errorf(pim.KindInvalid, "a token must live for at least 1s, not %s", ttl)
	}
	if !now.Add(ttl).Before(maxExpiry) {
		return "", pim.Errorf(pim.KindInvalid, "a token that lives for %s ends out of range", ttl)
	}
	if k.issuer == nil {
		return "", pim.Errorf(pim.KindUnsupported, "no key in %s can issue tokens: none has a private part", k.path)
	}
	claims := jwt.RegisteredClaims{
		Issuer:    k.issuer.issuer,
		Subject:   string(user),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}
	if k.issuer.audience != "" {
		claims.Audience = jwt.ClaimStrings{k.issuer.audience}
	}
	t := jwt.NewWithClaims(k.issuer.method, claims)
	t.Header["kid"] = k.issuer.id
	signed, err := t.SignedString(k.issuer.sign)
	if err != nil {
		return "", pim.Errorf(pim.KindInternal, "sign with key %s: %w", k.issuer.id, err)
	}
	return signed, nil
}

var (
	errUnknownKey     = errors.New("the token's kid names none of the server's keys")
	errOtherAlgorithm = errors.New("the token's alg is not the one of its key")
	errCritical       = errors.New("the token's header has a crit that is not understood")
)

// refusal says in our words why package jwt refused a token.
func refusal(err error) error {
	for _, own := range []error{errUnknownKey, errOtherAlgorithm, errCritical} {
		if errors.Is(err, own) {
			return unauthorized(own.Error(), err)
		}
	}
	for _, r := range []struct {
		is   error
		text string
	}{
		{errDateForm, errDateForm.Error()},
		{errDateRange, errDateRange.Error()},
		{jwt.ErrTokenExpired, textExpired},
		{jwt.ErrTokenNotValidYet, textNotYet},
		{jwt.ErrTokenUsedBeforeIssued, textFuture},
		{jwt.ErrTokenRequiredClaimMissing, "the token has no exp"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature is wrong"},
		{jwt.ErrTokenUnverifiable, "the token's alg is unknown"},
	} {
		if errors.Is(err, r.is) {
			return unauthorized(r.text, err)
		}
	}
	return unauthorized("the token is malformed: three parts of base64url are expected, with strict JSON (RFC 7493) in the first two", err)
}

func unauthorized(text string, cause error) error {
	return &pim.Error{Kind: pim.KindUnauthorized, Text: text, Err: cause}
}
