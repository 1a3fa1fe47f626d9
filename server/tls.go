package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim/account"
)

// loadTLS reads or makes the certificates. now is the clock; nil is the machine's.
func (s *Server) loadTLS(now func() time.Time) error {
	if now == nil {
		now = time.Now
	}
	var err error
	switch c := &s.config; {
	case c.TLSSelfSigned:
		path := filepath.Join(c.Data, selfSignedFile)
		if s.certs, err = selfSigned(path, c.ownHosts(), now()); err == nil {
			s.warnOfTLSKey(path)
		}
	case len(c.TLSCert) > 0:
		if s.certs, err = openCertificates(c.TLSCert, c.TLSKey); err == nil {
			for _, key := range c.TLSKey {
				s.warnOfTLSKey(key)
			}
		}
	}
	return err
}

// Pin returns the SHA-256 of the public key (SubjectPublicKeyInfo) of the certificate that the
// server has signed itself, in base64, for clients to trust just this key. It is "" without
// Config.TLSSelfSigned.
func (s *Server) Pin() string {
	if !s.config.TLSSelfSigned {
		return ""
	}
	return pinOf(s.certs.served.Load().all[0])
}

// watchFiles prepares the reading of keys and certificates while the server runs, and logs
// what the certificates are, and if they are not good now.
func (s *Server) watchFiles(keys *account.Keyring) {
	files := []*reloadable{{what: "keys", reload: func() (changes [][]any, err error) {
		changed, err := keys.Reload()
		if changed {
			s.warnOfKeys(keys.Keys())
			changes = [][]any{{"file", s.config.KeysPath()}}
			s.audit.begin(context.Background(), Audit{Act: "keys", Path: s.config.KeysPath()})(nil, 0)
		}
		return changes, err
	}}}
	if s.certs != nil {
		for _, p := range s.certs.pairs {
			s.log.Info("certificate", append([]any{"file", p.certFile}, about(p.loaded)...)...)
		}
	}
	if s.certs != nil && !s.config.TLSSelfSigned {
		files = append(files, &reloadable{what: "certificate", reload: func() (changes [][]any, err error) {
			taken, err := s.certs.reload(s.clock.Relied())
			for _, p := range taken {
				changes = append(changes, append([]any{"file", p.certFile}, about(p.loaded)...))
				s.audit.begin(context.Background(), Audit{Act: "certificate", Path: p.certFile})(nil, 0)
			}
			return changes, err
		}})
	}
	s.reloader = newReloader(s.log, s.clock.Relied, s.certs, s.metrics, files...)
	s.reloader.judgeCertificates()
}

// strict tells browsers that come with TLS to come with TLS only from now on, for age
// (RFC 6797). It does not where a browser would not heed it, or should not: at an address, and on
// this machine, where what else is served has the same host.
func strict(h http.Handler, age time.Duration) http.Handler {
	if age == 0 {
		return h
	}
	value := "max-age=" + strconv.FormatInt(int64(age/time.Second), 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && hasName(r.Host) {
			w.Header().Set("Strict-Transport-Security", value)
		}
		h.ServeHTTP(w, r)
	})
}

// hasName reports whether host, with a port or without, is a name that is not this machine's for
// itself.
func hasName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err != nil
}
