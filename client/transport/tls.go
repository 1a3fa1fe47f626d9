package transport

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pim-im/pim"
)

// TLSReason is why no connection with TLS came about, or none without.
type TLSReason string

// The reasons. More may be added.
const (
	TLSExpired          TLSReason = "expired"           // the certificate, or one of its chain, has expired
	TLSNotYetValid      TLSReason = "not_yet_valid"     // it is not valid yet
	TLSWrongName        TLSReason = "wrong_name"        // it is for other names than the server's
	TLSUnknownAuthority TLSReason = "unknown_authority" // nobody who is trusted has signed it; it may have signed itself
	TLSBadCertificate   TLSReason = "bad_certificate"   // it is wrong in another way
	TLSWrongPin         TLSReason = "wrong_pin"         // the server's key is not the one that was pinned
	TLSTooOld           TLSReason = "too_old"           // the server does not speak TLS 1.3
	TLSNotSpoken        TLSReason = "not_spoken"        // the server does not speak TLS at this address
	TLSRequired         TLSReason = "required"          // the server speaks TLS at this address, and the client was told not to
)

// TLSError says why the two sides did not agree about TLS. Dial returns it within a *pim.Error
// of KindUnavailable, since the operator of the server may mend it.
type TLSError struct {
	Reason TLSReason
	Text   string // for people; it may quote what a stranger has written into a certificate
	Err    error  // the cause; may be nil
}

// Error returns the text.
func (e *TLSError) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// Pin returns config for connections to servers that have exactly one key, whoever has signed
// their certificates, for whatever name and time. pin is the SHA-256 of the key (of the
// certificate's SubjectPublicKeyInfo) in base64; an error is of KindInvalid. A proxy that
// config is used for as well must have the same key.
func Pin(config *tls.Config, pin string) (*tls.Config, error) {
	want, err := base64.StdEncoding.DecodeString(pin)
	if err != nil || len(want) != sha256.Size {
		return nil, pim.Errorf(pim.KindInvalid, "pin %q: it must be the SHA-256 of a public key in base64, 44 characters, as pim serve --tls-self-signed prints it", pin)
	}
	if config == nil {
		config = new(tls.Config)
	}
	config = config.Clone()
	further := config.VerifyConnection
	config.InsecureSkipVerify = true // VerifyConnection is called all the same, and the handshake proves that the server has the key
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return &TLSError{Reason: TLSWrongPin, Text: "it has no certificate"}
		}
		got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if subtle.ConstantTimeCompare(got[:], want) != 1 {
			return &TLSError{Reason: TLSWrongPin, Text: fmt.Sprintf("its key has the pin %s, not %s: it is another server, or has a new key", base64.StdEncoding.EncodeToString(got[:]), pin)}
		}
		if further != nil {
			return further(state)
		}
		return nil
	}
	return config, nil
}

// Plain reports whether server, a URL that NewDialer takes, is one without TLS.
func Plain(server string) bool {
	u, err := url.Parse(server)
	return err == nil && (u.Scheme == "http" || u.Scheme == "ws" || u.Scheme == "tcp")
}

// explain returns err, which Dial met, as a *pim.Error with a *TLSError in it if it is about TLS.
func (d *Dialer) explain(err error) error {
	now := time.Now
	if d.tls != nil && d.tls.Time != nil {
		now = d.tls.Time
	}
	e := tlsErrorOf(err, now())
	if e == nil {
		return err
	}
	return &pim.Error{Op: "TLS with " + d.address, Kind: pim.KindUnavailable, Text: e.Text, Err: e}
}

// tlsErrorOf returns what err says about TLS, or nil.
func tlsErrorOf(err error, now time.Time) *TLSError {
	var known *TLSError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	is := func(reason TLSReason, format string, args ...any) *TLSError {
		return &TLSError{Reason: reason, Text: fmt.Sprintf(format, args...), Err: err}
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		of := "its certificate"
		if errors.As(err, &certificate) && !invalid.Cert.Equal(certificate.UnverifiedCertificates[0]) {
			of = "the certificate of its authority"
		}
		if now.Before(invalid.Cert.NotBefore) {
			return is(TLSNotYetValid, "%s is valid from %s on only, or this machine's clock is wrong", of, invalid.Cert.NotBefore.UTC().Format(time.RFC3339))
		}
		return is(TLSExpired, "%s expired at %s, or this machine's clock is wrong", of, invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &name):
		return is(TLSWrongName, "its certificate is for %s, not for %s", namesOf(name.Certificate), name.Host)
	case errors.As(err, &unknown):
		if c := unknown.Cert; c != nil && string(c.RawIssuer) == string(c.RawSubject) {
			return is(TLSUnknownAuthority, "its certificate has signed itself, and this machine does not trust it")
		}
		return is(TLSUnknownAuthority, "its certificate is signed by no authority that this machine trusts")
	case errors.As(err, &certificate):
		return is(TLSBadCertificate, "%s", certificate.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return is(TLSNotSpoken, "it does not speak TLS at this address")
	// crypto/tls has no values for these.
	case strings.Contains(err.Error(), "tls: protocol version not supported"), strings.Contains(err.Error(), "tls: server selected unsupported protocol version"):
		return is(TLSTooOld, "it does not speak TLS 1.3")
	}
	return nil
}

// namesOf returns the first names that a certificate is for.
func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names[:len(names):len(names)], ip.String())
	}
	const most = 4
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d others", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// errRequired is what a server that speaks TLS has said to a client that does not.
func errRequired() *TLSError {
	return &TLSError{Reason: TLSRequired, Text: "it speaks TLS at this address: name it with https://, wss:// or tls://"}
}

// saysTLS reports whether an HTTP server's answer, of which body is the beginning, says that the
// request should have come over TLS. HTTP has no status for that: these are the words of Go's
// server, of nginx and of Apache.
func saysTLS(status int, body string) bool {
	if status != http.StatusBadRequest {
		return false
	}
	for _, words := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "speaking plain HTTP to an SSL-enabled server port"} {
		if strings.Contains(body, words) {
			return true
		}
	}
	return false
}

// looksLikeTLS reports whether a stream that should hold frames begins with an alert of TLS.
func looksLikeTLS(in []byte) bool { return len(in) >= 2 && in[0] == 21 && in[1] == 3 }
