package pim

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is the sort of an error; programs decide by it. Kinds cross the wire
// (docs/protocol.md, "Errors") and are metric labels, so numbers and names are
// only ever added.
type Kind uint8

const (
	KindUnknown        Kind = 0  // not classified; a client treats it as KindInternal
	KindInvalid        Kind = 1  // the request can never succeed as it is
	KindUnauthorized   Kind = 2  // no valid token
	KindForbidden      Kind = 3  // the user may not do this
	KindNotMember      Kind = 4  // the user is not in the conversation
	KindNotFound       Kind = 5  // the conversation, or what else was named, does not exist
	KindTooLarge       Kind = 6  // over a limit, such as one that Welcome announces
	KindOverloaded     Kind = 7  // a bound was reached; try again after RetryAfter
	KindUnavailable    Kind = 8  // the node cannot write or read now; try again
	KindDiskFull       Kind = 9  // no room to write durably; try again later
	KindCorrupt        Kind = 10 // stored data failed its checksum or cannot be decoded
	KindUnsupported    Kind = 11 // a version or feature that this side does not know
	KindReplaced       Kind = 12 // the same device connected again elsewhere
	KindTimeout        Kind = 13 // the other side was silent or too slow
	KindInternal       Kind = 14 // a defect; the server's log says more
	KindConflict       Kind = 15 // the ID, or what else was asked for, is already in use
	KindClockUnhealthy Kind = 16 // the node's clock is off; it does not write
	KindRevoked        Kind = 17 // the token was good, and was revoked; or its user is blocked
	kindEnd            Kind = 18
)

var kindNames = [kindEnd]string{
	"unknown", "invalid", "unauthorized", "forbidden", "not_member", "not_found", "too_large",
	"overloaded", "unavailable", "disk_full", "corrupt", "unsupported", "replaced", "timeout", "internal",
	"conflict", "clock_unhealthy", "revoked",
}

// String returns the kind's stable name, as in metrics and JSON.
func (k Kind) String() string {
	if k.Known() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// Known reports whether this version has the kind.
func (k Kind) Known() bool { return k < kindEnd }

// Retryable reports whether the same request may succeed later.
func (k Kind) Retryable() bool {
	switch k {
	case KindOverloaded, KindUnavailable, KindDiskFull, KindTimeout, KindInternal, KindUnknown, KindClockUnhealthy:
		return true
	}
	return false
}

// Error is the error of every pim package: what was being done, its kind, and a
// text that a reader of the log can act on.
type Error struct {
	Op         string        // what was being done, e.g. "send"; may be empty
	Kind       Kind          // what programs decide by
	Text       string        // for people
	RetryAfter time.Duration // when to try again at the earliest; 0 if the server has no opinion
	Err        error         // the cause; may be nil; does not cross the wire
}

// Errorf returns an Error of kind k. As with fmt.Errorf, %w wraps a cause. If the
// cause is also of kind k, the text leaves out the cause's "(kind)".
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Text: withoutKind(err.Error(), k, err), Err: errors.Unwrap(err)}
}

// Error returns "op: text (kind)". The text names the kind of a cause only if that
// differs from e.Kind.
func (e *Error) Error() string {
	text := withoutKind(e.Text, e.Kind, e.Err)
	if e.Op == "" {
		return fmt.Sprintf("%s (%s)", text, e.Kind)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Op, text, e.Kind)
}

// withoutKind returns text, which quotes err. If the first Error in err's chain is of
// kind k, the "(kind)" at the end of its quote is left out.
func withoutKind(text string, k Kind, err error) string {
	var inner *Error
	if !errors.As(err, &inner) || inner.Kind != k {
		return text
	}
	quoted := inner.Error()
	return strings.Replace(text, quoted, strings.TrimSuffix(quoted, fmt.Sprintf(" (%s)", k)), 1)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain: KindUnknown if
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindUnknown
}
