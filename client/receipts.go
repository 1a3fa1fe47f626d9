package client

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// What others have read. See package engine.
type (
	// Receipts is how far others have read a conversation.
	Receipts = engine.Receipts
	// Receipt says how many members of a group have read a message.
	Receipt = engine.Receipt
	// Reader is one whom a message of a group is for.
	Reader = engine.Reader
)

// Receipts asks the server how far others have read conv: in a direct conversation what the
// other user has got and read, in a group how many have read each of the messages from..to, at
// most 50. It waits for a connection as long as ctx allows. Errors: KindForbidden while the user
// gives no receipts (SetReceipts); KindNotMember; KindInvalid if the range is none.
func (c *Client) Receipts(ctx context.Context, conv pim.ConversationID, from, to pim.Seq) (Receipts, error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input {
		return engine.AskReceipts{ID: id, Conversation: conv, From: from, To: to}
	})
	return p.Receipts, err
}

// Readers asks the server who has read the message at seq of a group, and who has not: a page of
// them behind the user after, ascending by user. next is the after of the page that follows, empty
// on the last page. Errors: those of Receipts, and KindNotFound if seq is no message.
func (c *Client) Readers(ctx context.Context, conv pim.ConversationID, seq pim.Seq, after pim.UserID) (page []Reader, next pim.UserID, err error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input {
		return engine.AskReceipts{ID: id, Conversation: conv, From: seq, Readers: true, After: after}
	})
	return p.Receipts.Readers, p.Receipts.Next, err
}
