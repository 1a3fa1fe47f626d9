package pim

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// UserID names a user. The app that embeds pim gives it out: 1–64 bytes of
// UTF-8 without control characters, whitespace, '/' or ':'. The server accepts a new
// user only if RFC 8265 allows the name as well, see package username.
type UserID string

// DeviceID names one device of a user, in the same characters as a UserID.
type DeviceID string

// ConversationID names a conversation: "d:A:B" for the direct conversation of
// users A ≤ B, "g:" and a name given out by the server for a group, "u:A" for
// user A's own log, which holds their commands.
type ConversationID string

// ClientMessageID identifies a message from its creation on. It is a UUIDv7,
// made by the sending device and kept over every resend.
type ClientMessageID [16]byte

// Validate reports why u is not a user ID, as an Error of KindInvalid.
func (u UserID) Validate() error { return validateID("user ID", string(u)) }

// Validate reports why d is not a device ID, as an Error of KindInvalid.
func (d DeviceID) Validate() error { return validateID("device ID", string(d)) }

func validateID(what, s string) error {
	switch {
	case s == "":
		return Errorf(KindInvalid, "%s is empty", what)
	case len(s) > MaxIDBytes:
		return Errorf(KindInvalid, "%s has %d bytes, at most %d are allowed", what, len(s), MaxIDBytes)
	case !utf8.ValidString(s):
		return Errorf(KindInvalid, "%s is not valid UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.IsSpace(r) || r == '/' || r == ':' {
			return Errorf(KindInvalid, "%s %q holds %q; control characters, whitespace, '/' and ':' are not allowed", what, s, r)
		}
	}
	return nil
}

// Direct returns the conversation of a and b. Its ID follows from the two
// users, whichever is named first; a == b is a user's conversation with
// themselves.
func Direct(a, b UserID) ConversationID {
	if b < a {
		a, b = b, a
	}
	return ConversationID("d:" + string(a) + ":" + string(b))
}

// Own returns u's own log, which holds u's commands. Nobody else reads or writes it.
func Own(u UserID) ConversationID { return ConversationID("u:" + string(u)) }

// OwnUser returns the user whose own log c is; ok is false if c is no own log.
func (c ConversationID) OwnUser() (u UserID, ok bool) {
	name, ok := strings.CutPrefix(string(c), "u:")
	return UserID(name), ok
}

// groupName encodes group IDs without padding, in lower case.
var groupName = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewGroup returns the ID of the group that sender creates with the client
// message ID id. The group's ID follows from the request, so a resent request
// names the same group and creates it once.
func NewGroup(sender UserID, id ClientMessageID) ConversationID {
	h := sha256.New()
	h.Write([]byte(sender))
	h.Write([]byte{0})
	h.Write(id[:])
	return ConversationID("g:" + groupName.EncodeToString(h.Sum(nil)[:15]))
}

// IsGroup reports whether c names a group.
func (c ConversationID) IsGroup() bool { return strings.HasPrefix(string(c), "g:") }

// DirectUsers returns the two users of a direct conversation, in the order of
// its ID; ok is false if c does not name one.
func (c ConversationID) DirectUsers() (a, b UserID, ok bool) {
	rest, found := strings.CutPrefix(string(c), "d:")
	if !found {
		return "", "", false
	}
	first, second, found := strings.Cut(rest, ":")
	if !found {
		return "", "", false
	}
	return UserID(first), UserID(second), true
}

// Excludes reports whether the ID c alone shows that u is not a member. The ID of a
// direct conversation or of an own log names its users, and an ID of no known form
// has no members. A group's ID excludes nobody. Excludes is cheap and does not
// replace Validate.
func (c ConversationID) Excludes(u UserID) bool {
	if a, b, ok := c.DirectUsers(); ok {
		return u != a && u != b
	}
	if owner, own := c.OwnUser(); own {
		return u != owner
	}
	return !c.IsGroup()
}

// Validate reports why c is not a conversation ID, as an Error of KindInvalid.
func (c ConversationID) Validate() error {
	if a, b, ok := c.DirectUsers(); ok {
		if err := a.Validate(); err != nil {
			return err
		}
		if err := b.Validate(); err != nil {
			return err
		}
		if b < a {
			return Errorf(KindInvalid, "conversation ID %q: its users are not in byte order", string(c))
		}
		return nil
	}
	if name, ok := strings.CutPrefix(string(c), "g:"); ok {
		return validateID("group name", name)
	}
	if u, ok := c.OwnUser(); ok {
		return u.Validate()
	}
	return Errorf(KindInvalid, `conversation ID %q has none of the forms d:USER:USER, g:NAME and u:USER`, string(c))
}

// NewClientMessageID returns a fresh UUIDv7 for the time now. If the system has no
// randomness, crypto/rand ends the program.
func NewClientMessageID(now time.Time) ClientMessageID {
	var id ClientMessageID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	rand.Read(id[6:]) // never fails since Go 1.24
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseClientMessageID reads the form that String writes.
func ParseClientMessageID(s string) (ClientMessageID, error) {
	var id ClientMessageID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, Errorf(KindInvalid, "client message ID %q is not a UUID", s)
	}
	copy(id[:], b)
	return id, nil
}

// IsZero reports whether id is unset.
func (id ClientMessageID) IsZero() bool { return id == ClientMessageID{} }

// String returns id in the usual form of a UUID.
func (id ClientMessageID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
