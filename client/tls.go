package client

import (
	"errors"

	"github.com/pim-im/pim/client/transport"
)

// TLSReason is why client and server did not agree about TLS.
type TLSReason = transport.TLSReason

// The reasons. More may be added.
const (
	TLSExpired          = transport.TLSExpired
	TLSNotYetValid      = transport.TLSNotYetValid
	TLSWrongName        = transport.TLSWrongName
	TLSUnknownAuthority = transport.TLSUnknownAuthority
	TLSBadCertificate   = transport.TLSBadCertificate
	TLSWrongPin         = transport.TLSWrongPin
	TLSTooOld           = transport.TLSTooOld
	TLSNotSpoken        = transport.TLSNotSpoken
	TLSRequired         = transport.TLSRequired
)

// TLSReasonOf returns why err, that of a StateEvent, says that the connection was not made
// because of TLS; "" if it says nothing of the kind. The client goes on trying.
func TLSReasonOf(err error) TLSReason {
	var e *transport.TLSError
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
