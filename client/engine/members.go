package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Members is a page of those who are in a group.
type Members struct {
	Members []Member // ascending by user
	Owner   pim.UserID
	Next    pim.UserID // empty: this was the last page
}

// Member is one who is in a group.
type Member struct {
	User  pim.UserID
	Since pim.Seq    // the create or join that made the user a member, which the asking user may not be able to read
	At    pim.Millis // when that was; 0 if it is so long ago that the entry was trimmed
}

// asked returns in as the request of the given ID.
func (in *AskMembers) asked(id uint64) wire.Message {
	return &wirepb.PIMMembersReq{RequestId: id, Conversation: string(in.Conversation), After: string(in.After)}
}

// named takes the answer to an AskMembers.
func (s *asks) named(m *wirepb.PIMMembersResp) {
	a := s.active[m.RequestId]
	if a == nil {
		return
	}
	if _, ok := a.question.(*AskMembers); !ok {
		return
	}
	p := Members{Owner: pim.UserID(m.Owner), Next: pim.UserID(m.NextAfter)}
	for _, one := range m.Members {
		p.Members = append(p.Members, Member{User: pim.UserID(one.User), Since: pim.Seq(one.Since), At: pim.Millis(one.SinceMs)})
	}
	s.hand(a, Pulled{ID: a.ID, Members: p})
}
