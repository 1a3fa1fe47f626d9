// Package pim is the vocabulary of the pim instant-messaging system: the
// identifiers, the log entry, the errors and the display order that the
// server, the client and every tool share. It imports the standard library
// only and does no I/O.
//
// The words are those of docs/architecture.md:
//
//   - A user has several devices. A conversation, direct or group, is a log:
//     entries at seqs 1, 2, 3 … without a hole. An entry never changes.
//   - A message carries a client message ID, made once by the sending device
//     and kept over every resend, so that sending it again has one effect.
//   - A message has a local time (the sender's, at its first transmission) and
//     a server time (the writer's, never running backwards in a conversation).
//     Both decide its place on the screen, see Place.
//
// All times are Millis, milliseconds since 1970-01-01 UTC.
package pim

import "time"

// Limits of protocol v1. A server may announce lower ones in its Welcome, never
// higher ones.
const (
	MaxPayload      = 64 << 10  // bytes in one entry's payload
	MaxFrame        = 256 << 10 // bytes in one frame: type byte and body
	MaxPageEntries  = 1000      // entries in one pull page
	MaxPageBytes    = 1 << 20   // bytes in one pull page, over all its frames
	MaxGroupMembers = 2000      // present members of a group
	MaxIDBytes      = 64        // bytes in a UserID or DeviceID
)

// DedupWindow is how long, at least, the server remembers a client message ID:
// a send that is repeated within it gets the first answer (invariant I2).
const DedupWindow = 7 * 24 * time.Hour

// Millis is a point in time, in milliseconds since 1970-01-01 UTC.
type Millis int64

// MillisOf returns t in milliseconds, rounded down.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Time returns m as a time in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// Seq is the position of an entry in its conversation's log. The first entry
// has seq 1; 0 means "before the first".
type Seq uint64
