package receipts

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
)

// model is what happened, in the order in which it was acknowledged.
type model struct {
	events []event
}

// event is one thing that happened.
type event struct {
	what what
	user pim.UserID         // who did it, or was changed
	conv pim.ConversationID // empty for hide and show
	seq  pim.Seq            // of the entry; of a read the position
	at   pim.Millis         // the server's time
}

type what int

const (
	sends what = iota
	joins
	leaves
	reads
	hides
	shows
)

func (m *model) add(what what, user pim.UserID, conv pim.ConversationID, seq pim.Seq, at pim.Millis) {
	m.events = append(m.events, event{what, user, conv, seq, at})
}

// hidden reports whether user gives no receipts.
func (m *model) hidden(user pim.UserID) (hidden bool) {
	for _, e := range m.events {
		if e.user == user && (e.what == hides || e.what == shows) {
			hidden = e.what == hides
		}
	}
	return hidden
}

// present reports whether user is a member of the group conv.
func (m *model) present(user pim.UserID, conv pim.ConversationID) (present bool) {
	for _, e := range m.events {
		if e.user == user && e.conv == conv && (e.what == joins || e.what == leaves) {
			present = e.what == joins
		}
	}
	return present
}

// may reports whether user, at some time a member of the group conv, may read seq.
func (m *model) may(user pim.UserID, conv pim.ConversationID, seq pim.Seq) (may bool) {
	for _, e := range m.events {
		switch {
		case e.user != user || e.conv != conv:
		case e.what == joins && e.seq <= seq:
			may = true
		case e.what == leaves && e.seq < seq:
			may = false
		}
	}
	return may
}

// position returns how far user has read conv, and since when, as far as others may know.
func (m *model) position(user pim.UserID, conv pim.ConversationID) (seq pim.Seq, at pim.Millis) {
	hidden := false
	own := pim.Seq(0) // the position on the user's own devices
	for _, e := range m.events {
		shown := false
		switch {
		case e.user != user:
		case e.what == hides || e.what == shows:
			hidden = e.what == hides
		case e.conv != conv:
		case e.what == reads && e.seq > own:
			own = e.seq
			shown = !hidden
		case e.what == sends:
			shown = true
		}
		if shown && (e.seq > seq || e.seq == seq && e.at < at) {
			seq, at = e.seq, e.at
		}
	}
	return seq, at
}

// goesOn reports whether a read command up to seq tells the user's own devices something new.
func (m *model) goesOn(user pim.UserID, conv pim.ConversationID, seq pim.Seq) bool {
	return !slices.ContainsFunc(m.events, func(e event) bool {
		return e.what == reads && e.user == user && e.conv == conv && e.seq >= seq
	})
}

// receipts is what user is to be told of the messages from..to of conv.
func (m *model) receipts(user pim.UserID, conv pim.ConversationID, from, to pim.Seq) (r inbox.Receipts, kind pim.Kind) {
	switch {
	case conv.IsGroup() && !m.present(user, conv):
		return r, pim.KindNotMember
	case m.hidden(user):
		return r, pim.KindForbidden
	}
	if a, b, direct := conv.DirectUsers(); direct {
		if a == user {
			a = b
		}
		r.Read, r.ReadAt = m.position(a, conv)
		r.Delivered = r.Read // nothing is acknowledged
		if m.hidden(a) {
			r.Read, r.ReadAt = 0, 0
		}
		return r, pim.KindUnknown
	}
	for seq := from; seq <= to; seq++ {
		if readers, ok := m.readers(user, conv, seq); ok {
			receipt := inbox.Receipt{Seq: seq, Members: len(readers)}
			for _, reader := range readers {
				if reader.Read {
					receipt.Read++
				}
			}
			r.Messages = append(r.Messages, receipt)
		}
	}
	return r, pim.KindUnknown
}

// readers is what user is to be told of the message at seq of the group conv; ok is false if there
// is none.
func (m *model) readers(user pim.UserID, conv pim.ConversationID, seq pim.Seq) (readers []inbox.Reader, ok bool) {
	var sender pim.UserID
	for _, e := range m.events {
		if e.what == sends && e.conv == conv && e.seq == seq && m.may(user, conv, seq) {
			sender = e.user
		}
	}
	var users []pim.UserID
	for _, e := range m.events {
		if e.conv == conv && e.what == joins && !slices.Contains(users, e.user) {
			users = append(users, e.user)
		}
	}
	slices.Sort(users)
	for _, u := range users {
		if u == sender || m.hidden(u) || !m.present(u, conv) || !m.may(u, conv, seq) {
			continue
		}
		reader := inbox.Reader{User: u}
		if read, at := m.position(u, conv); read >= seq {
			reader.Read, reader.At = true, at
		}
		readers = append(readers, reader)
	}
	return readers, sender != ""
}
