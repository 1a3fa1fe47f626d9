package account

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// tokenClaims is a token's body. Its names are exact, and each stands once: otherwise a
// second "sub", or a "SUB" beside it, could be one user to this server and another to
// the app that signed. Package jwt checks the times, Verify the rest.
type tokenClaims struct {
	Subject   string       `json:"sub"`
	Device    *string      `json:"device"`
	Expires   *numericDate `json:"exp"`
	NotBefore *numericDate `json:"nbf"`
	IssuedAt  *numericDate `json:"iat"`
	ID        *string      `json:"jti"`

	// Of any form, unless the key says what they must be.
	Issuer   jsontext.Value `json:"iss"`
	Audience jsontext.Value `json:"aud"`
}

// UnmarshalJSON reads the body for package jwt, whose own reading is not strict.
func (b *tokenClaims) UnmarshalJSON(data []byte) error {
	type plain tokenClaims // without this method
	return strictjson.UnmarshalOpen(data, (*plain)(b))
}

// These methods make it a jwt.Claims. They hide the claims that pim does not use, so that
// package jwt does not judge them.

func (b *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) { return b.Expires.jwt(), nil }

func (b *tokenClaims) GetNotBefore() (*jwt.NumericDate, error) { return b.NotBefore.jwt(), nil }
func (b *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error)  { return b.IssuedAt.jwt(), nil }
func (b *tokenClaims) GetIssuer() (string, error)              { return "", nil }
func (b *tokenClaims) GetSubject() (string, error)             { return b.Subject, nil }
func (b *tokenClaims) GetAudience() (jwt.ClaimStrings, error)  { return nil, nil }

// expects returns why a token of k is not from its issuer, or not for its audience.
func (k *key) expects(b *tokenClaims) error {
	if k.issuer != "" {
		var issuer string
		if strictjson.Unmarshal(b.Issuer, &issuer) != nil || issuer != k.issuer {
			return unauthorized("the token's iss is not that of its key", nil)
		}
	}
	if k.audience != "" {
		var one string
		var several []string
		if strictjson.Unmarshal(b.Audience, &one) == nil {
			several = []string{one}
		} else if strictjson.Unmarshal(b.Audience, &several) != nil {
			several = nil
		}
		if !slices.Contains(several, k.audience) {
			return unauthorized("the token's aud does not name this server", nil)
		}
	}
	return nil
}

// claims returns what the body says. The caller has checked its times.
func (b *tokenClaims) claims() (Claims, error) {
	c := Claims{User: pim.UserID(b.Subject), Expires: b.Expires.time}
	if err := c.User.Validate(); err != nil {
		return Claims{}, unauthorized("the token's sub is no user ID", err)
	}
	if b.IssuedAt != nil {
		c.Issued = b.IssuedAt.time
	}
	if b.ID != nil {
		if c.ID = *b.ID; c.ID == "" || len(c.ID) > MaxTokenID {
			return Claims{}, unauthorized("the token's jti has not 1 to 256 bytes", nil)
		}
	}
	if b.Device != nil {
		c.Device = pim.DeviceID(*b.Device)
		if err := c.Device.Validate(); err != nil {
			return Claims{}, unauthorized("the token's device is no device ID", err)
		}
	}
	return c, nil
}

// numericDate is RFC 7519's NumericDate: a JSON number of seconds since 1970. The type
// of package jwt also accepts text.
type numericDate struct{ time time.Time }

// These errors tell those who make tokens about a time that is text, or milliseconds.
var (
	errDateForm  = errors.New("a time in the token is not a JSON number of seconds since 1970")
	errDateRange = errors.New("a time in the token is out of range: it must be in seconds since 1970") // package jwt could not compare such a time
)

// UnmarshalJSON reads a number, and drops fractions of a second.
func (d *numericDate) UnmarshalJSON(data []byte) error {
	seconds, err := strconv.ParseFloat(string(data), 64)
	if errors.Is(err, strconv.ErrRange) {
		return errDateRange
	}
	if err != nil {
		return errDateForm
	}
	if end := float64(maxExpiry.Unix()); seconds <= -end || seconds >= end {
		return errDateRange
	}
	d.time = time.Unix(int64(seconds), 0)
	return nil
}

func (d *numericDate) jwt() *jwt.NumericDate {
	if d == nil {
		return nil
	}
	return jwt.NewNumericDate(d.time)
}

// checkForm refuses what the packages base64 and jwt accept: line breaks in the base64,
// and a header that is not strict JSON, and so may say two things. A signed text has one
// spelling.
func checkForm(token string) error {
	if strings.ContainsFunc(token, outsideToken) {
		return unauthorized("the token is malformed: it holds a line break, a space or another character that is not base64url", nil)
	}
	head, _, _ := strings.Cut(token, ".")
	header, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if err == nil {
		err = strictjson.UnmarshalOpen(header, &struct{}{})
	}
	if err != nil {
		return unauthorized("the token is malformed: its header is not base64url of strict JSON (RFC 7493)", err)
	}
	return nil
}

func outsideToken(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return true
}

// SubjectOf returns the user that a token names. It checks only the token's form,
// neither signature nor times: the server decides who is let in. The error is a
// *pim.Error of KindInvalid.
func SubjectOf(token string) (pim.UserID, error) {
	var body tokenClaims
	err := checkForm(token)
	if err == nil {
		_, _, err = jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, &body)
	}
	if err == nil {
		err = pim.UserID(body.Subject).Validate()
	}
	if err != nil {
		return "", &pim.Error{Kind: pim.KindInvalid, Text: formText(err), Err: err}
	}
	return pim.UserID(body.Subject), nil
}

// formText says why SubjectOf has refused a token.
func formText(err error) string {
	for _, date := range []error{errDateForm, errDateRange} {
		if errors.Is(err, date) {
			return date.Error()
		}
	}
	return "the token is no JWT with a user in it"
}
