package clienttest

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// look takes a PIMLook, and returns the presence of the users who were not looked at before.
func (x *Session) look(m *wirepb.PIMLook) (answers []wire.Message) {
	before := x.users
	x.looks, x.users = m.Conversations, nil
	for _, name := range m.Users {
		u := pim.UserID(name)
		shown := x.server.shows(u, x.key.user)
		if shown {
			x.users = append(x.users, u)
		}
		if !shown || !slices.Contains(before, u) {
			answers = append(answers, x.server.presence(u, shown))
		}
	}
	return answers
}

// shows reports whether user is shown to looker.
func (s *Server) shows(user, looker pim.UserID) bool {
	set := func(of pim.UserID, kind pim.CommandKind, about pim.UserID) bool {
		c := pim.Command{Kind: kind, Subject: string(about)}
		at := s.settings(of)[c.Entity()]
		return at.InForce(0)
	}
	switch {
	case set(user, pim.CommandNoPresence, user), set(looker, pim.CommandNoPresence, looker),
		set(user, pim.CommandBlock, looker), set(looker, pim.CommandBlock, user):
		return false
	case set(user, pim.CommandContact, looker):
		return true
	}
	l := s.logs[pim.Direct(user, looker)]
	return l != nil && slices.ContainsFunc(l.entries, func(e pim.Entry) bool { return e.Sender == user && e.Kind == pim.EntryMessage })
}

// presence returns what is told of user. The server does not know when users were connected.
func (s *Server) presence(user pim.UserID, shown bool) *wirepb.PIMPresence {
	online := false
	for key := range s.sessions {
		online = online || key.user == user
	}
	return &wirepb.PIMPresence{User: string(user), Online: online && shown}
}

// tellPresence tells those who look at user.
func (s *Server) tellPresence(user pim.UserID) {
	for _, key := range slices.SortedFunc(maps.Keys(s.sessions), deviceKey.compare) {
		if x := s.sessions[key]; slices.Contains(x.users, user) {
			x.push(s.presence(user, s.shows(user, key.user)))
		}
	}
}

// types tells those who look at c that the user writes there.
func (x *Session) types(c pim.ConversationID) {
	s := x.server
	l := s.logs[c]
	if l == nil || !l.member(c, x.key.user) {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.sessions), deviceKey.compare) {
		other := s.sessions[key]
		if key.user != x.key.user && slices.Contains(other.looks, string(c)) && l.member(c, key.user) {
			other.push(&wirepb.PIMTyping{Conversation: string(c), Users: []string{string(x.key.user)}})
		}
	}
}
