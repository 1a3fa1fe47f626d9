package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

// certificate is the server's TLS certificate and the files that it is read from. New
// connections get the newest one; open connections keep theirs.
type certificate struct {
	certFile, keyFile string

	load    sync.Mutex // one reload at a time
	current atomic.Pointer[tls.Certificate]
	content []byte // of both files, as of current; guarded by load
}

// openCertificate reads the certificate for the first time.
func openCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	loaded, content, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(loaded)
	c.content = content
	return c, nil
}

// config returns the TLS settings of the server's addresses.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"http/1.1"}, // WebSocket upgrades need it
	}
}

// reload reads the files, and takes the certificate in them if it is another one than the
// current. A certificate that is not good at the time now does not replace one that is.
func (c *certificate) reload(now time.Time) (changed bool, err error) {
	c.load.Lock()
	defer c.load.Unlock()
	loaded, content, err := c.read()
	if err != nil || bytes.Equal(content, c.content) {
		return false, err
	}
	if err := validity(loaded, now); err != nil && validity(c.current.Load(), now) == nil {
		return false, &pim.Error{Op: "TLS certificate " + c.certFile, Kind: pim.KindInvalid, Text: err.Error()}
	}
	c.current.Store(loaded)
	c.content = content
	return true, nil
}

// read returns the certificate in the files, checked against its key, and the content of
// both files.
func (c *certificate) read() (*tls.Certificate, []byte, error) {
	chain, err := readPEM("TLS certificate", c.certFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := readPEM("TLS key", c.keyFile)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, nil, &pim.Error{Op: "TLS certificate " + c.certFile + " with key " + c.keyFile, Kind: pim.KindInvalid, Text: err.Error(), Err: err}
	}
	return &loaded, append(append(chain, 0), key...), nil
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
