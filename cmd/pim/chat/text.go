package chat

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/content"
)

// Line returns an entry for people, without a line end.
func Line(e *pim.Entry) string {
	return line(e, func(u pim.UserID) string { return Printable(string(u)) })
}

// line is Line with another way to name users; name must return what is safe to print.
func line(e *pim.Entry, name func(pim.UserID) string) string {
	who := name(e.Sender)
	switch e.Kind {
	case pim.EntryMessage:
		if e.Erased {
			return who + ": (erased)"
		}
		text := said(e)
		return who + ": " + text + mentions(e, text, name)
	case pim.EntryCreate:
		line := fmt.Sprintf("* %s created the group: %s", who, users(e.Members, name))
		if len(e.Invited) > 0 {
			line += ", and invited " + users(e.Invited, name)
		}
		return line
	case pim.EntryJoin:
		return membership(e, "joined", "added", name)
	case pim.EntryLeave:
		return membership(e, "left", "removed", name)
	case pim.EntryEdit, pim.EntryRecall, pim.EntryReaction, pim.EntryPin:
		return referring(e, who)
	case pim.EntryErase:
		return fmt.Sprintf("* %s erased all that they had written", who)
	case pim.EntryRetain:
		if e.Retain == 0 {
			return fmt.Sprintf("* %s keeps messages for as long as the server does", who)
		}
		return fmt.Sprintf("* %s keeps messages for %s", who, Age(e.Retain))
	case pim.EntryCommand:
		return fmt.Sprintf("* %s changed a setting", who)
	}
	return fmt.Sprintf("* %s wrote something that this version does not know", who)
}

// Age returns m, for how long messages are kept, for people.
func Age(m pim.Millis) string {
	const day = 24 * time.Hour
	switch d := time.Duration(m) * time.Millisecond; {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return d.String()
	}
}

// said returns the text of a message or an edit.
func said(e *pim.Entry) string {
	text, _ := content.Preview(e.Payload, false)
	if text == "" && len(e.Payload) > 0 {
		return fmt.Sprintf("(%d bytes that are not text)", len(e.Payload))
	}
	return Printable(text)
}

// referring says what e does to the message that it refers to.
func referring(e *pim.Entry, who string) string {
	switch {
	case e.Kind == pim.EntryEdit && e.Erased:
		return fmt.Sprintf("* %s edited %d: (erased)", who, e.Refers)
	case e.Kind == pim.EntryEdit:
		return fmt.Sprintf("* %s edited %d: %s", who, e.Refers, said(e))
	case e.Kind == pim.EntryRecall:
		return fmt.Sprintf("* %s recalled %d", who, e.Refers)
	case e.Kind == pim.EntryReaction && e.Removed:
		return fmt.Sprintf("* %s took back %s from %d", who, Printable(e.Reaction), e.Refers)
	case e.Kind == pim.EntryReaction:
		return fmt.Sprintf("* %s reacted to %d: %s", who, e.Refers, Printable(e.Reaction))
	case e.Removed:
		return fmt.Sprintf("* %s unpinned %d", who, e.Refers)
	}
	return fmt.Sprintf("* %s pinned %d", who, e.Refers)
}

// About says, for people and in one line, which message e answers or forwards; "" if it
// does neither.
func About(e *pim.Entry) string {
	c := contentOf(e)
	if r := c.Reply; r != nil {
		about := fmt.Sprintf("reply to %d, %s", r.Seq, Printable(string(r.Sender)))
		if r.Excerpt != "" {
			about += ": " + Printable(r.Excerpt)
		}
		return about
	}
	return forwarded(&c, func(u pim.UserID) string { return Printable(string(u)) })
}

// contentOf returns what the message e says if it is an envelope that can be read;
// otherwise nothing.
func contentOf(e *pim.Entry) content.Content {
	if e.Kind != pim.EntryMessage || !content.IsEnvelope(e.Payload) {
		return content.Content{}
	}
	c, _ := content.Parse(e.Payload)
	return c
}

// forwarded says where a forward comes from, and what was said there unless that stands
// for the text; "" if c forwards nothing.
func forwarded(c *content.Content, name func(pim.UserID) string) string {
	f := c.Forward
	if f == nil {
		return ""
	}
	about := "forwarded"
	if f.Sender != "" {
		about += " from " + name(f.Sender)
	}
	if text, _ := content.Preview(f.Content, false); c.Text != "" {
		about += ": " + Printable(text)
	}
	return about
}

// membership says what a join or leave did, to the sender or to others. A leave
// that is still in the outbox and names nobody is the sender's own.
func membership(e *pim.Entry, self, others string, name func(pim.UserID) string) string {
	if len(e.Invited) > 0 {
		return invitation(e, others, name)
	}
	if len(e.Members) == 0 || len(e.Members) == 1 && e.Members[0] == e.Sender {
		return fmt.Sprintf("* %s %s", name(e.Sender), self)
	}
	return fmt.Sprintf("* %s %s %s", name(e.Sender), others, users(e.Members, name))
}

// invitation says what a join or leave did that invites users, or ends invitations. others is what it did to members.
func invitation(e *pim.Entry, others string, name func(pim.UserID) string) string {
	line := "* " + name(e.Sender)
	if len(e.Members) > 0 {
		line += " " + others + " " + users(e.Members, name) + ", and"
	}
	switch {
	case e.Kind != pim.EntryLeave:
		return line + " invited " + users(e.Invited, name)
	case len(e.Invited) == 1 && e.Invited[0] == e.Sender:
		return line + " declined the invitation"
	}
	return line + " took back the invitation of " + users(e.Invited, name)
}

// Users lists users for people.
func Users(list []pim.UserID) string {
	return users(list, func(u pim.UserID) string { return Printable(string(u)) })
}

func users(users []pim.UserID, name func(pim.UserID) string) string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = name(u)
	}
	return strings.Join(names, ", ")
}

// Printable makes somebody else's text safe to print on a terminal. The text becomes one
// line, and characters that would control the terminal or reorder the line are replaced
// by U+FFFD. Invisible characters that scripts need stay: joiners, soft hyphens, marks
// of direction, the tags of flags.
func Printable(s string) string {
	s = strings.ReplaceAll(s, "\n", " ⏎ ")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case deceives(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// deceives reports whether r could make a terminal, or the person who looks at it, take a
// line for another. It returns false for code points that this program's tables do not
// have yet: a later Unicode may have given them to a script or an emoji.
func deceives(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cs, unicode.Co, unicode.Noncharacter_Code_Point, reorders)
}

// reorders holds the embeddings, overrides and isolates of direction; the annotations,
// which hide text behind text; and format characters that Unicode has deprecated.
var reorders = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x202a, Hi: 0x202e, Stride: 1}, {Lo: 0x2066, Hi: 0x206f, Stride: 1}, {Lo: 0xfff9, Hi: 0xfffb, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0xe0001, Hi: 0xe0001, Stride: 1}},
}

// Plain returns an error's text for people, without the kinds in it: those are for
// programs.
func Plain(err error) string {
	text := err.Error()
	for _, k := range kinds(err) {
		text = strings.ReplaceAll(text, fmt.Sprintf(" (%s)", k), "")
	}
	return text
}

// kinds returns the kinds of err and of all errors that it wraps.
func kinds(err error) (all []pim.Kind) {
	if e, ok := err.(*pim.Error); ok {
		all = append(all, e.Kind)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			all = append(all, kinds(cause)...)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			all = append(all, kinds(cause)...)
		}
	}
	return all
}

// Lost says why there is no connection, empty if err is nil.
func Lost(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server answers"
	}
	if what, ok := BrokenOff("the connection", err); ok {
		return what
	}
	return Printable(Plain(err))
}

// BrokenOff says of a connection, which it calls so, that it broke off or cannot be made, and why if the system
// says that: without the names of the calls around it. It reports false if err is none of the network or the other side, such as a
// certificate that is wrong, or what a server has said.
func BrokenOff(connection string, err error) (what string, ok bool) {
	var certificate *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case pim.KindOf(err) != pim.KindUnknown || errors.As(err, &certificate):
		return "", false
	case !errors.As(err, &network) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed):
		return "", false
	}
	what = connection + " broke off"
	if network != nil && network.Op == "dial" {
		what = connection + " cannot be made"
	}
	var system syscall.Errno
	switch {
	case errors.As(err, &system):
		what += ": " + system.Error()
	case network != nil:
		what += ": " + Printable(Plain(network))
	}
	return what, true
}
