package client

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// Who is in a group. See package engine.
type (
	// Members is a page of those who are in a group.
	Members = engine.Members
	// Member is one who is in a group.
	Member = engine.Member
)

// Members asks the server who is in the group conv now: a page of the members behind the user after,
// ascending by user; empty for the first page. Every member may ask, and is told of all. It waits for a
// connection as long as ctx allows. The caller owns what it returns. Errors: KindNotMember, also if the
// user has left; KindInvalid if conv is no group.
func (c *Client) Members(ctx context.Context, conv pim.ConversationID, after pim.UserID) (Members, error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input {
		return engine.AskMembers{ID: id, Conversation: conv, After: after}
	})
	return p.Members, err
}
