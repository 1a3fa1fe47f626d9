package gateway

import (
	"errors"
	"testing"
)

func TestTLSReasons(t *testing.T) {
	for why, want := range map[string]string{
		"tls: first record does not look like a TLS handshake":    tlsPlain,
		"client sent an HTTP request to an HTTPS server":          tlsPlain,
		"tls: client offered only unsupported versions: [303]":    tlsOld,
		"remote error: tls: bad certificate":                      tlsRefused,
		"remote error: tls: expired certificate":                  tlsRefused,
		"remote error: tls: unknown certificate authority":        tlsRefused,
		"remote error: tls: handshake failure":                    tlsOther,
		"EOF":                                                     "",
		"read tcp 127.0.0.1:1->127.0.0.1:2: i/o timeout":          "",
		"read tcp 127.0.0.1:1->127.0.0.1:2: connection reset":     "",
		errors.Join(errTurnedAway).Error():                        "",
		"tls: client requested unsupported application protocols": tlsOther,
	} {
		if got := tlsReasonOf(why); got != want {
			t.Errorf("%q is %q, want %q", why, got, want)
		}
	}
}
