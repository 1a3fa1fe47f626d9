package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// trust returns settings that trust a certificate, as an authority or as itself.
func trust(p pair) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.cert)
	return &tls.Config{RootCAs: pool}
}

// Each way in which client and server may not agree about TLS has its error at the client, and its
// count at the server.
func TestTLSErrors(t *testing.T) {
	now := time.Now()
	const day = 24 * time.Hour
	expired, early := newPair(t, "", now.Add(-2*day), now.Add(-day)), newPair(t, "", now.Add(day), now.Add(2*day))
	fine := good(t, "")
	for _, c := range []struct {
		name    string
		cert    pair
		config  *tls.Config
		address func(string) string // what the client makes of 127.0.0.1
		scheme  string              // that the client speaks: "" for TLS
		reason  transport.TLSReason
		counted string
	}{
		{"expired", expired, trust(expired), nil, "", transport.TLSExpired, "refused"},
		{"not yet valid", early, trust(early), nil, "", transport.TLSNotYetValid, "refused"},
		{"wrong name", fine, trust(fine), localhost, "", transport.TLSWrongName, "refused"},
		{"signed by itself", fine, &tls.Config{RootCAs: x509.NewCertPool()}, nil, "", transport.TLSUnknownAuthority, "refused"},
		{"no TLS 1.3", fine, nil, nil, "old", "", "old"},
		{"no TLS", fine, nil, nil, "plain", transport.TLSRequired, "plain"},
		{"TLS where there is none", pair{}, nil, nil, "", transport.TLSNotSpoken, "spoken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t)
			if c.cert.cert != nil {
				data := cfg.Data
				cfg, _ = withTLS(t, c.cert)
				cfg.Data = data
			}
			s, _ := serving(t, cfg, server.Options{})
			for _, web := range []bool{true, false} {
				addr := s.TCPAddr()
				if web {
					addr = s.Addr()
				}
				if c.address != nil {
					addr = c.address(addr)
				}
				scheme := map[bool]string{true: "wss://", false: "tls://"}[web]
				switch c.scheme {
				case "old":
					if conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
						conn.Close()
						t.Errorf("%s speaks TLS 1.2", addr)
					} else if !strings.Contains(err.Error(), "protocol version not supported") {
						t.Errorf("a client of TLS 1.2 gets %v", err)
					}
					continue
				case "plain":
					if !web {
						plainTCP(t, addr)
						continue
					}
					scheme = "ws://"
				}
				err := dialled(t, scheme+addr, c.config)
				var e *transport.TLSError
				if !errors.As(err, &e) || e.Reason != c.reason || pim.KindOf(err) != pim.KindUnavailable {
					t.Errorf("%s%s: %v, want %q, unavailable", scheme, addr, err, c.reason)
				}
			}
			counted := func() string { return failures(t, s, c.cert.cert != nil, c.counted) }
			want := "2"
			if c.counted == "spoken" { // to net/http it is a bad request
				want = "1"
			}
			eventually(t, "the server counts "+want+" as "+c.counted, func() bool { return counted() == want })
		})
	}
}

// localhost is another name of addr, for which no certificate is.
func localhost(addr string) string { return strings.Replace(addr, "127.0.0.1", "localhost", 1) }

func dialled(t *testing.T, url string, config *tls.Config) error {
	t.Helper()
	d, err := transport.NewDialer(url, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	conn, err := d.Dial(ctx)
	if err == nil {
		conn.Close()
	}
	return err
}

// plainTCP says hello without TLS at an address with TLS, and wants to be told.
func plainTCP(t *testing.T, addr string) {
	t.Helper()
	d, err := transport.NewDialer("tcp://"+addr, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Write([][]byte{wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: strings.Repeat("t", 8<<10), Device: "d"})}); err != nil {
		t.Fatal(err)
	}
	frame, err := conn.Read()
	if err != nil {
		t.Fatal(err)
	}
	_, m, err := wire.Decode(frame)
	e, ok := m.(*wirepb.PIMError)
	if err != nil || !ok || pim.Kind(e.Kind) != pim.KindUnavailable || !strings.Contains(e.Text, "tls://") {
		t.Fatalf("%v, %v; want an error that names tls://", m, err)
	}
	frame, err = conn.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, m, err = wire.Decode(frame); err != nil {
		t.Fatal(err)
	}
	if g, ok := m.(*wirepb.PIMGoAway); !ok || wire.Code(g.Code) != wire.CodeHandshake {
		t.Errorf("%v; want PIMGoAway, handshake", m)
	}
}

// failures returns pim_tls_failures_total for a reason.
func failures(t *testing.T, s *server.Server, encrypted bool, reason string) string {
	t.Helper()
	name := `pim_tls_failures_total{reason="` + reason + `"}`
	if encrypted {
		return metric(t, s, name)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.Addr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return metricIn(t, resp.Body, name)
}
