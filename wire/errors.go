package wire

import (
	"errors"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// maxErrorText is how many bytes of an error's text cross the wire. The text may
// quote what a client sent.
const maxErrorText = 512

// ErrorFrame returns the PIMError body for err. The text of an error that is
// not a pim.Error stays on the server.
func ErrorFrame(err error) *wirepb.PIMError {
	k := pim.KindOf(err)
	m := &wirepb.PIMError{Kind: wirepb.ErrorKind(k), Text: "internal error", Retryable: k.Retryable()}
	var e *pim.Error
	if errors.As(err, &e) {
		m.Text = e.Text
		if len(m.Text) > maxErrorText {
			m.Text = strings.ToValidUTF8(m.Text[:maxErrorText], "") + "…"
		}
		m.RetryAfterMs = uint32(min(e.RetryAfter, time.Hour) / time.Millisecond)
	}
	return m
}

// ErrorOf returns the error that m carries. A kind of a later version becomes
// KindUnavailable if m is retryable, else KindInvalid.
func ErrorOf(m *wirepb.PIMError) *pim.Error {
	kind := pim.KindInvalid
	switch {
	case m.Kind >= 0 && m.Kind < 256 && pim.Kind(m.Kind).Known():
		kind = pim.Kind(m.Kind)
	case m.Retryable:
		kind = pim.KindUnavailable
	}
	return &pim.Error{
		Kind:       kind,
		Text:       m.Text,
		RetryAfter: time.Duration(m.RetryAfterMs) * time.Millisecond,
	}
}

// Code is why a connection was closed: in PIMGoAway, and as the WebSocket close
// code. 4000–4099: reconnect, after a random wait in the window. 4100–4199: do
// not reconnect before something has changed.
type Code uint16

// The close codes of v1.
const (
	CodeShutdown    Code = 4000 // the server stops or restarts
	CodeSlow        Code = 4001 // the connection did not take what was written to it
	CodeIdle        Code = 4002 // silent for longer than Welcome's limits allow
	CodeOverloaded  Code = 4003 // the node takes no more connections
	CodeUnavailable Code = 4004 // the node cannot serve now, because its store has failed
	CodeHandshake   Code = 4005 // no Hello in time, or a frame that stayed half sent

	CodeReplaced     Code = 4100 // the same device connected again
	CodeUnauthorized Code = 4101 // the token is not valid, or has expired
	CodeProtocol     Code = 4102 // a frame that cannot be read, or one not allowed here
	CodeTooLarge     Code = 4103 // a frame above the limit
	CodeUnsupported  Code = 4104 // no common protocol version
)

var codeNames = map[Code]string{
	CodeShutdown: "shutdown", CodeSlow: "slow", CodeIdle: "idle", CodeOverloaded: "overloaded",
	CodeUnavailable: "unavailable", CodeHandshake: "handshake", CodeReplaced: "replaced",
	CodeUnauthorized: "unauthorized", CodeProtocol: "protocol", CodeTooLarge: "too_large", CodeUnsupported: "unsupported",
}

// String returns the code's stable name, as in metrics.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "other"
}

// Reconnect reports whether a client reconnects by itself after c.
func (c Code) Reconnect() bool { return c < 4100 }
