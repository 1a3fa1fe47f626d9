package nats

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/pim-im/pim"
)

// TLS names the files with which nodes know each other. The certificate and its key are read again for
// each connection, so renewed ones need no restart; CA is read once.
type TLS struct {
	CA        string // certificates (PEM) of the cluster's own authority
	Cert, Key string // this node's certificate chain and private key (PEM)
}

type tlsFiles struct {
	files TLS
	roots *x509.CertPool
}

// load reads the files.
func (t *TLS) load() (*tlsFiles, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, &pim.Error{Op: "cluster CA", Kind: pim.KindNotFound, Text: err.Error(), Err: err}
	}
	f := &tlsFiles{files: *t, roots: x509.NewCertPool()}
	if !f.roots.AppendCertsFromPEM(pem) {
		return nil, &pim.Error{Op: "cluster CA", Kind: pim.KindInvalid, Text: t.CA + " has no certificate in PEM"}
	}
	cert, err := f.certificate()
	if err == nil {
		err = f.verifyOwn(cert)
	}
	if err != nil {
		return nil, &pim.Error{Op: "cluster certificate", Kind: pim.KindInvalid, Text: t.Cert + ": " + err.Error(), Err: err}
	}
	return f, nil
}

func (f *tlsFiles) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.files.Cert, f.files.Key)
	return &cert, err
}

// verifyOwn returns why the other nodes will not take cert.
func (f *tlsFiles) verifyOwn(cert *tls.Certificate) error {
	var others []*x509.Certificate
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		others = append(others, c)
	}
	return f.verify(cert.Leaf, others)
}

// verify returns why a certificate is not of the cluster's authority.
func (f *tlsFiles) verify(leaf *x509.Certificate, others []*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, c := range others {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: f.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// route returns how two embedded servers speak, whichever of them has dialled the other.
func (f *tlsFiles) route() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate() },
		ClientAuth:           tls.RequireAnyClientCert,
		InsecureSkipVerify:   true, // only the name is not verified, see the package comment; VerifyConnection does the rest
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return pim.Errorf(pim.KindUnauthorized, "the other node has no certificate")
			}
			return f.verify(s.PeerCertificates[0], s.PeerCertificates[1:])
		},
	}
}

// client returns how the node speaks to NATS servers of somebody else, whose names are verified.
func (f *tlsFiles) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: f.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate() },
	}
}
