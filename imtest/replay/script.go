package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"
)

// script is a chat log as a group of pim: who is there at the start, and what
// happens then.
type script struct {
	first []pim.UserID // present from the start
	later []pim.UserID // join in the course of it, and are not in first
	steps []step
}

// step is one entry that the group's log is to have.
type step struct {
	at      time.Duration // since the log's start
	kind    pim.EntryKind // of the file: message, join or leave; of an act: edit, recall, erase or reaction
	user    pim.UserID    // who speaks, joins, leaves or acts
	text    string        // of a message or edit; of a reaction what it is
	refers  pim.Seq       // of an act: the message
	removed bool          // of a reaction: it is taken back
	mention pim.UserID    // of a message: whom it names; empty: nobody
	all     bool          // of a message: it mentions all
}

// line is one event of the file, see testdata/README.md.
type line struct {
	At   int64   `json:"at"`
	Kind string  `json:"kind"`
	User string  `json:"user"`
	To   string  `json:"to"`
	Text *string `json:"text"`
}

const (
	maxLine = 1 << 20 // bytes
	maxAt   = int64(366 * 24 * time.Hour / time.Millisecond)
)

// readScript reads a chat log. Logs of real channels are not whole, so:
//
//   - a user who acts without having joined was there from the start or, after a
//     leave, joins again by that act;
//   - a join of a user who is present and a leave of one who is absent mean nothing;
//   - a rename is a leave of the old name and a join of the new one.
//
// Nothing is changed or left out in silence: a line that cannot be played as it
// stands is an error of KindInvalid with its number.
func readScript(r io.Reader) (*script, error) {
	p := parser{script: new(script), known: map[pim.UserID]bool{}, present: map[pim.UserID]bool{}}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine+len("\r\n"))
	n := 1
	for ; in.Scan(); n++ {
		if len(in.Bytes()) > maxLine {
			return nil, lineTooLong(n)
		}
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		var l line
		err := strictjson.Unmarshal(in.Bytes(), &l)
		if err == nil {
			err = p.take(&l)
		}
		if err != nil {
			return nil, pim.Errorf(pim.KindInvalid, "line %d: %w", n, err)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return nil, lineTooLong(n)
	}
	if err := in.Err(); err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "line %d cannot be read: %w", n, err)
	}
	if len(p.script.steps) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "the log holds no events")
	}
	return p.script, nil
}

func lineTooLong(n int) error {
	return pim.Errorf(pim.KindInvalid, "line %d is longer than %d bytes", n, maxLine)
}

type parser struct {
	*script
	last    int64 // at of the line before
	known   map[pim.UserID]bool
	present map[pim.UserID]bool
}

// check refuses a line that lacks a field, has one too many, or has a value that cannot
// be. last is the at of the line before.
func (l *line) check(last int64) error {
	switch {
	case !slices.Contains([]string{"message", "join", "leave", "rename"}, l.Kind):
		return fmt.Errorf("kind %q is not known", l.Kind)
	case l.At < 0 || l.At > maxAt:
		return fmt.Errorf("at is %d, it must be from 0 to %d", l.At, maxAt)
	case l.At < last:
		return fmt.Errorf("at goes back from %d to %d; sort the lines by it", last, l.At)
	case l.Kind == "message" && l.Text == nil:
		return errors.New("a message must have a text, which may be empty")
	case l.Kind != "message" && l.text() != "":
		return fmt.Errorf("kind %s has no text", l.Kind)
	case l.Kind != "rename" && l.To != "":
		return fmt.Errorf("kind %s has no to", l.Kind)
	case len(l.text()) > pim.MaxPayload:
		return fmt.Errorf("a text of %d bytes, at most %d can be sent", len(l.text()), pim.MaxPayload)
	}
	return userID(l.User).Validate()
}

func (l *line) text() string {
	if l.Text == nil {
		return ""
	}
	return *l.Text
}

// take adds what a line says to the script.
func (p *parser) take(l *line) error {
	if err := l.check(p.last); err != nil {
		return err
	}
	p.last = l.At
	at, user := time.Duration(l.At)*time.Millisecond, userID(l.User)
	switch l.Kind {
	case "message":
		p.join(at, user, true)
		p.steps = append(p.steps, step{at: at, kind: pim.EntryMessage, user: user, text: l.text()})
	case "join":
		p.join(at, user, false)
	case "leave":
		p.leave(at, user)
	case "rename":
		to := userID(l.To)
		if err := to.Validate(); err != nil {
			return err
		}
		p.leave(at, user)
		p.join(at, to, false)
	}
	return nil
}

// join makes user present. acting says that the log shows no join: the user just acts.
func (p *parser) join(at time.Duration, user pim.UserID, acting bool) {
	if p.present[user] {
		return
	}
	p.present[user] = true
	switch {
	case p.known[user]:
	case acting:
		p.known[user] = true
		p.first = append(p.first, user)
		return
	default:
		p.known[user] = true
		p.later = append(p.later, user)
	}
	p.steps = append(p.steps, step{at: at, kind: pim.EntryJoin, user: user})
}

func (p *parser) leave(at time.Duration, user pim.UserID) {
	if !p.known[user] {
		p.join(at, user, true)
	}
	if !p.present[user] {
		return
	}
	p.present[user] = false
	p.steps = append(p.steps, step{at: at, kind: pim.EntryLeave, user: user})
}

// userID makes a user ID of a nick. Characters that a user ID must not have are written
// as %XX, and so is '%'.
func userID(nick string) pim.UserID {
	var b strings.Builder
	for _, r := range nick {
		if unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("/:%", r) {
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
			continue
		}
		b.WriteRune(r)
	}
	return pim.UserID(b.String())
}
