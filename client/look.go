package client

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// Look says which conversations and users are on the screen, in place of what the last Look named: at
// most 100 together. While they are, events come:
//
//   - A ReceiptEvent after others have read in a conversation, at most once a second for each. It does
//     not come for what was before: look first, then ask for Receipts, and after each connect
//     (StateEvent) ask again. To a user who gives no receipts none comes.
//   - A TypingEvent while others write in a conversation.
//   - A PresenceEvent for each of users, and another one after it has changed. A user is shown to
//     those who are among the user's contacts or to whom the user has written directly.
//
// The look at a conversation ends if the user is no member, and at a user who is not shown; call Look
// again when that may have changed. What the server refuses is told by a LookEvent. Errors:
// KindTooLarge, KindInvalid.
func (c *Client) Look(ctx context.Context, conversations []pim.ConversationID, users ...pim.UserID) error {
	return c.do(ctx, engine.Look{Conversations: conversations, Users: users})
}

// Typing lets the other users who look at conv know that the user writes there, unless the user shows
// no presence (SetPresence). Call it while a person writes, as often as you like: the server is told
// once in a second at most, and only if there is a connection. Errors: KindInvalid.
func (c *Client) Typing(ctx context.Context, conv pim.ConversationID) error {
	return c.do(ctx, engine.Typing{Conversation: conv})
}
