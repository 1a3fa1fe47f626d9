package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wholefile"
)

const (
	// selfSignedFile, in the data directory, holds the certificate of tls-self-signed and its key.
	selfSignedFile = "tls-self-signed.pem"
	selfSignedLife = 365 * 24 * time.Hour
)

// selfSigned returns the certificate of tls-self-signed. It makes the file if there is none, and
// another certificate with the same key if that in the file is for other names, or if less than a
// third of its life is left: a client that has the key's pin goes on.
func selfSigned(path string, hosts []string, now time.Time) (*certificates, error) {
	op := "TLS certificate " + path
	data, err := readSelfSigned(path)
	var key *ecdsa.PrivateKey
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, &pim.Error{Op: op, Kind: pim.KindInternal, Text: err.Error(), Err: err}
		}
	case err != nil:
		return nil, &pim.Error{Op: op, Kind: pim.KindInvalid, Text: err.Error(), Err: err}
	default:
		loaded, err := tls.X509KeyPair(data, data)
		ok := false
		if err == nil {
			key, ok = loaded.PrivateKey.(*ecdsa.PrivateKey)
		}
		if !ok {
			return nil, &pim.Error{
				Op: op, Kind: pim.KindInvalid, Err: err,
				Text: "it does not hold what pim writes there; remove it for another one, whose pin clients must then be told",
			}
		}
		if slices.Equal(hostsOf(loaded.Leaf), hosts) && now.After(loaded.Leaf.NotBefore) && now.Before(loaded.Leaf.NotAfter.Add(-selfSignedLife/3)) {
			return only(path, &loaded), nil
		}
	}
	data, err = signItself(key, hosts, now)
	if err != nil {
		return nil, &pim.Error{Op: op, Kind: pim.KindInternal, Text: err.Error(), Err: err}
	}
	loaded, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, &pim.Error{Op: op, Kind: pim.KindInternal, Text: err.Error(), Err: err}
	}
	if err := wholefile.Replace(path, data); err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "write %s: %w", path, err)
	}
	return only(path, &loaded), nil
}

func readSelfSigned(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	return readPEM("TLS certificate", path)
}

// only returns certificates with one, which is in the file at path together with its key.
func only(path string, cert *tls.Certificate) *certificates {
	c := &certificates{pairs: []*certificate{{certFile: path, keyFile: path, loaded: cert}}}
	next, _ := serve([]*tls.Certificate{cert})
	c.served.Store(next)
	return c
}

// signItself returns, as PEM, a certificate for hosts and its key.
func signItself(key *ecdsa.PrivateKey, hosts []string, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: "pim, signed by itself"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife), // clocks of clients are a little off
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// hostsOf returns the names and addresses of a certificate, sorted.
func hostsOf(cert *x509.Certificate) []string {
	hosts := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// ownHosts returns the names and addresses under which clients find the node, sorted: this
// machine's own, those that it listens on, and those of advertise.
func (c *Config) ownHosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, addr := range []string{c.Listen, c.ListenTCP} {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	for _, address := range commas(c.Advertise) {
		if u, err := url.Parse(address); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	hosts = slices.DeleteFunc(hosts, func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return host == "" || err == nil && ip.IsUnspecified()
	})
	for i, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil {
			hosts[i] = ip.Unmap().WithZone("").String()
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
