package gateway

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
)

// Hint is what Homes say of a subject that connections of this gateway look at.
type Hint struct {
	Subject pim.ConversationID // a user has that of the own log
	Typing  pim.UserID         // who writes there; "": what is known of the subject may have changed
	State   bool               // the subject is a user, and the fields below are set
	Online  bool               // the user has a connection to any node
	Seen    pim.Millis         // when the user was seen last, if that may not be stored yet; else 0
}

// presence is what a home has said of a user.
type presence struct {
	known  bool
	online bool
	seen   pim.Millis
}

// Hint takes what Homes say. Hints of subjects at which nobody looks are without effect. It does not wait.
func (s *Sessions) Hint(h Hint) {
	switch {
	case h.Typing != "":
		s.types(h.Typing, h.Subject, time.Now())
	case s.looks.hint(h):
		s.startTelling()
	}
}

// DropTyping counts n PIMTypings that Homes have dropped.
func (s *Sessions) DropTyping(n int) { s.metrics.dropTyping.Add(float64(n)) }

// types has the lookers of a conversation told that user writes there.
func (s *Sessions) types(user pim.UserID, id pim.ConversationID, now time.Time) {
	if s.looks.overload.Sheds(limit.Typing) {
		s.looks.overload.Shed(limit.Typing, 1)
		return
	}
	start, dropped := s.looks.types(user, id, now)
	if start {
		s.startTelling()
	}
	if dropped {
		s.metrics.dropTyping.Inc()
	}
}

// hears sets who is told what is looked at, and what says when nothing is told. It is called before the first connection.
func (l *looks) hears(h Homes, o *limit.Overload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.homes, l.overload = h, o
}

// hint notes what a home says of a subject. It reports whether the caller must start work.
func (l *looks) hint(h Hint) (start bool) {
	if l.some.Load() == 0 || !l.shard(h.Subject).has(h.Subject) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.subjects[h.Subject]
	if s == nil || len(s.lookers) == 0 {
		return false
	}
	if h.State {
		s.said = presence{known: true, online: h.Online, seen: h.Seen}
	}
	s.changed = true
	return l.mark(s)
}

// reconsider notes that everything that c looks at may have changed. It reports whether the caller must
// start work.
func (l *looks) reconsider(c *conn) (start bool) {
	if l.some.Load() == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.looking[c]
	if k == nil {
		return false
	}
	for _, id := range k.ids {
		s := l.subjects[id]
		s.changed = true
		start = l.mark(s) || start
	}
	return start
}
