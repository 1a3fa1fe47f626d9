package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Why a client and this server did not agree about TLS, as pim_tls_failures_total has it.
const (
	tlsPlain   = "plain"   // the client does not speak TLS, and the address does
	tlsSpoken  = "spoken"  // the client speaks TLS, and the address does not
	tlsOld     = "old"     // the client does not speak TLS 1.3
	tlsRefused = "refused" // the client does not take the certificate
	tlsOther   = "other"
)

var tlsReasons = []string{tlsPlain, tlsSpoken, tlsOld, tlsRefused, tlsOther}

// errPlain is for a client of raw TCP without TLS, which gets it without TLS.
var errPlain = pim.Errorf(pim.KindUnavailable, "this address speaks TLS: name it with tls://")

// errSpeaksTLS is for the log: a client that speaks TLS does not understand it.
var errSpeaksTLS = pim.Errorf(pim.KindInvalid, "the client speaks TLS, and this address does not")

// TLSFailed counts a TLS handshake of the HTTP server that failed. why is the text of the error,
// which is all that net/http tells.
func (g *Gateway) TLSFailed(why string) {
	if reason := tlsReasonOf(why); reason != "" {
		g.Metrics.tls.WithLabelValues(reason).Inc()
	}
}

// tlsReasonOf returns the label for the text of an error of crypto/tls or net/http: "" if the client
// has only gone, or was too slow. crypto/tls has no values for most of its errors.
func tlsReasonOf(why string) string {
	has := func(part string) bool { return strings.Contains(why, part) }
	switch {
	case has("first record does not look like a TLS handshake"), has("client sent an HTTP request to an HTTPS server"):
		return tlsPlain
	case has("client offered only unsupported versions"):
		return tlsOld
	case has("remote error: tls:") && has("certificate"):
		return tlsRefused
	case has("tls: "):
		return tlsOther
	}
	return ""
}

// secure does the TLS handshake, if the connection has TLS. Its error is no *pim.Error: the client
// was told, or cannot be.
func (c *conn) secure(remote string) error {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	err := t.Handshake()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.gw.TLSFailed(err.Error())
	c.log().Debug("TLS handshake failed", "reason", tlsReasonOf(err.Error()), "err", err, "remote", c.from(remote))
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && record.RecordHeader[0] == 0 && record.RecordHeader[1] == 0 {
		c.answerPlain(record.Conn) // it began with the length of a frame
	}
	return err
}

// answerPlain tells a client without TLS on nc, which is below c.nc, that there is TLS.
func (c *conn) answerPlain(nc net.Conn) {
	defer context.AfterFunc(c.gw.ctx, c.abort)()
	nc.SetDeadline(time.Now().Add(c.gw.Limits.Write))
	out := wire.AppendTCP(nil, wire.Append(nil, wire.ErrorFrame(errPlain)))
	out = wire.AppendTCP(out, wire.Append(nil, &wirepb.PIMGoAway{Code: uint32(wire.CodeHandshake), Reconnect: true, WindowMs: uint32(c.gw.window(wire.CodeHandshake) / time.Millisecond), Text: errPlain.Text}))
	if _, err := nc.Write(out); err != nil {
		return
	}
	if half, ok := nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	nc.SetReadDeadline(time.Now().Add(c.gw.linger))
	io.CopyN(io.Discard, nc, lingerBytes) // see linger.go
}

// speaksTLS reports whether what should begin with a frame is the beginning of a TLS handshake.
func (c *conn) speaksTLS(in []byte) bool {
	return c.framing == lengths && len(in) >= 3 && in[0] == 22 && in[1] == 3 && in[2] <= 4
}
