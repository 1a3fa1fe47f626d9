package chat

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/pim-im/pim"
)

// People are told what has happened to the connection, and not which calls have noticed it.
func TestLost(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	route := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "no server answers"},
		{fmt.Errorf("failed to get reader: failed to read frame header: %w", io.ErrUnexpectedEOF), "the connection broke off"},
		{fmt.Errorf("failed to get reader: %w", reset), "the connection broke off: connection reset by peer"},
		{fmt.Errorf("failed to dial: %w", route), "the connection cannot be made: no route to host"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("lookup x: no such\x1b[1m host")}, "the connection cannot be made: dial tcp: lookup x: no such\ufffd[1m host"},
		{pim.Errorf(pim.KindUnavailable, "the server closed the connection: shutdown"), "the server closed the connection: shutdown"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		if got := Lost(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
