package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

// certificates are the server's TLS certificates and the files that they are read from. New
// connections get the newest one for the name that they ask for; open connections keep theirs.
type certificates struct {
	pairs  []*certificate // owned by whoever calls reload
	served atomic.Pointer[served]
}

// certificate is a certificate chain and its key.
type certificate struct {
	certFile, keyFile string
	loaded            *tls.Certificate
	content           []byte // of both files, as of loaded
}

// served is what new connections are given. It does not change.
type served struct {
	all   []*tls.Certificate // the first is for clients that name none of these
	names map[string]*tls.Certificate
}

// openCertificates reads the certificates for the first time. Two of them must not be for the
// same name.
func openCertificates(certFiles, keyFiles []string) (*certificates, error) {
	c := new(certificates)
	for i, certFile := range certFiles {
		p := &certificate{certFile: certFile, keyFile: keyFiles[i]}
		var err error
		if p.loaded, p.content, err = p.read(); err != nil {
			return nil, err
		}
		c.pairs = append(c.pairs, p)
	}
	all := make([]*tls.Certificate, len(c.pairs))
	for i, p := range c.pairs {
		all[i] = p.loaded
	}
	next, clash := serve(all)
	if clash != nil {
		return nil, clash.err(c.pairs)
	}
	c.served.Store(next)
	return c, nil
}

// clash says that two certificates are for the same name.
type clash struct {
	name          string
	first, second int
}

func (c *clash) err(pairs []*certificate) error {
	return &pim.Error{
		Op: "TLS certificate " + pairs[c.second].certFile, Kind: pim.KindInvalid,
		Text: fmt.Sprintf("it is for %s, and so is %s", c.name, pairs[c.first].certFile),
	}
}

// serve returns what new connections are given if all are the certificates. It returns a clash
// if two are for the same name. Clients name no addresses, so these may be in several.
func serve(all []*tls.Certificate) (*served, *clash) {
	s := &served{all: all, names: make(map[string]*tls.Certificate)}
	of := make(map[string]int)
	for i, cert := range all {
		for _, name := range cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			if first, taken := of[name]; taken && first != i {
				return nil, &clash{name, first, i}
			}
			of[name], s.names[name] = i, cert
		}
	}
	return s, nil
}

// find returns the certificate for a client that wants to talk to name: one for just that name
// before one with a wildcard in place of its first label.
func (s *served) find(name string) *tls.Certificate {
	name = strings.ToLower(name)
	if cert := s.names[name]; cert != nil {
		return cert
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		if cert := s.names["*."+domain]; cert != nil {
			return cert
		}
	}
	return s.all[0]
}

// config returns TLS settings for one address. Each address needs settings of its own: net/http
// writes to those that it is given.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.served.Load().find(hello.ServerName), nil
		},
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"}, // WebSocket upgrades need it
	}
}

// reload reads the files, and takes every certificate that is another one than before. It
// returns what it took, and what is wrong with others, of which the one before stays. A
// certificate that is not good at the time now does not replace one that is, nor does one for
// a name that another has.
func (c *certificates) reload(now time.Time) (taken []*certificate, err error) {
	var errs []error
	before := c.served.Load().all
	next, all := make([]*certificate, len(c.pairs)), slices.Clone(before) // next[i] is nil if the i-th stays
	for i, p := range c.pairs {
		loaded, content, err := p.read()
		switch {
		case err != nil:
			errs = append(errs, err)
		case bytes.Equal(content, p.content):
		case validity(loaded, now) != nil && validity(p.loaded, now) == nil:
			errs = append(errs, &pim.Error{Op: "TLS certificate " + p.certFile, Kind: pim.KindInvalid, Text: validity(loaded, now).Error()})
		default:
			next[i], all[i] = &certificate{p.certFile, p.keyFile, loaded, content}, loaded
		}
	}
	serving, clash := serve(all)
	if clash != nil { // then one after the other, each that fits those before
		all = before
		for i := range next {
			if next[i] == nil {
				continue
			}
			try := slices.Clone(all)
			try[i] = next[i].loaded
			if _, clash := serve(try); clash != nil {
				next[i] = nil
				errs = append(errs, clash.err(c.pairs))
				continue
			}
			all = try
		}
		serving, _ = serve(all)
	}
	for i, p := range c.pairs {
		if next[i] != nil {
			*p = *next[i]
			taken = append(taken, p)
		}
	}
	c.served.Store(serving)
	return taken, errors.Join(errs...)
}

// expiry returns when the first of all certificates expires.
func (c *certificates) expiry() time.Time {
	all := c.served.Load().all
	first := expiry(all[0])
	for _, cert := range all[1:] {
		if until := expiry(cert); until.Before(first) {
			first = until
		}
	}
	return first
}

// read returns the certificate in the files, checked against its key, and the content of
// both files.
func (p *certificate) read() (*tls.Certificate, []byte, error) {
	chain, err := readPEM("TLS certificate", p.certFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := readPEM("TLS key", p.keyFile)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, nil, &pim.Error{Op: "TLS certificate " + p.certFile + " with key " + p.keyFile, Kind: pim.KindInvalid, Text: err.Error(), Err: err}
	}
	return &loaded, append(append(chain, 0), key...), nil
}

// about returns what the log says of a certificate.
func about(cert *tls.Certificate) []any {
	names := cert.Leaf.DNSNames
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names[:len(names):len(names)], ip.String())
	}
	return []any{"names", strings.Join(names, " "), "expires", expiry(cert).UTC().Format(time.RFC3339), "pin", pinOf(cert)}
}

// pinOf returns the SHA-256 of the certificate's public key (its SubjectPublicKeyInfo) in
// base64, as clients take it for --tls-pin.
func pinOf(cert *tls.Certificate) string {
	sum := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// maxPEM is how many bytes a file with a certificate chain or a key may have.
const maxPEM = 1 << 20

// readPEM reads a file that a setting names. An error is of KindInvalid, as for a setting
// that is wrong.
func readPEM(what, path string) ([]byte, error) {
	data, err := account.ReadFile(path, maxPEM)
	if err != nil {
		return nil, &pim.Error{Op: what, Kind: pim.KindInvalid, Text: err.Error(), Err: err}
	}
	return data, nil
}

// validity returns why clients refuse c at the time now, nil if they do not.
func validity(c *tls.Certificate, now time.Time) error {
	switch {
	case now.Before(c.Leaf.NotBefore):
		return fmt.Errorf("it is valid from %s on only", c.Leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.Leaf.NotAfter):
		return fmt.Errorf("it expired at %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// expiry returns when the first certificate of c's chain expires.
func expiry(c *tls.Certificate) time.Time {
	until := c.Leaf.NotAfter
	for _, der := range c.Certificate[1:] {
		if x, err := x509.ParseCertificate(der); err == nil && x.NotAfter.Before(until) {
			until = x.NotAfter
		}
	}
	return until
}

// renewal returns when c should have been renewed: two weeks before it expires, or a third of
// its life before if it lives less than six weeks.
func renewal(c *tls.Certificate) time.Time {
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	return expiry(c).Add(-min(14*24*time.Hour, life/3))
}
