package client

import (
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// Commands change what a user keeps on all devices. Without a connection a command
// takes effect on this device at once (SettingEvent), and on the others later. If a
// later command makes it pointless before it is transmitted, it is not sent at all. A
// command that could not be sent for 7 days has failed.
//
// The errors are those of Send, and KindUnavailable while neither Options.User nor a
// connection has named the user.

// Do queues any command. The client sets its Known.
func (c *Client) Do(ctx context.Context, cmd pim.Command) (*Sending, error) {
	cmd.Value = slices.Clone(cmd.Value)
	id := pim.NewClientMessageID(time.Now())
	return c.queue(ctx, id, engine.Do{ID: id, Command: cmd})
}

// SetContact stores user among the contacts, with a value for the app to choose,
// such as a name and notes: at most pim.MaxCommandValue bytes.
func (c *Client) SetContact(ctx context.Context, user pim.UserID, value []byte) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandContact, Subject: string(user), Value: value})
}

// RemoveContact removes user from the contacts. It wins over a SetContact that
// another device made without knowing of it.
func (c *Client) RemoveContact(ctx context.Context, user pim.UserID) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandContact, Subject: string(user), Removed: true})
}

// Block sets whether the server refuses direct messages of user.
func (c *Client) Block(ctx context.Context, user pim.UserID, on bool) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandBlock, Subject: string(user), Removed: !on})
}

// Mute keeps conv from notifying until a time; the zero time stands for ever. The app
// has to honour it.
func (c *Client) Mute(ctx context.Context, conv pim.ConversationID, until time.Time) (*Sending, error) {
	cmd := pim.Command{Kind: pim.CommandMute, Subject: string(conv)}
	if !until.IsZero() {
		cmd.Until = pim.MillisOf(until)
	}
	return c.Do(ctx, cmd)
}

// Unmute ends a Mute.
func (c *Client) Unmute(ctx context.Context, conv pim.ConversationID) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandMute, Subject: string(conv), Removed: true})
}

// Pin sets whether conv stays on top of the list.
func (c *Client) Pin(ctx context.Context, conv pim.ConversationID, on bool) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandPin, Subject: string(conv), Removed: !on})
}

// MarkRead says that the user has read the conversation of e up to e. Errors:
// KindInvalid also if e is nil, or beyond the newest seq that this device has heard of:
// read positions only grow, so a position beyond the log would hide all entries to come.
// A message that the user sends also counts as read, with all entries before it. MarkRead also
// takes the mark of MarkUnread away, if this device has heard of it; the Sending is of the position.
func (c *Client) MarkRead(ctx context.Context, e *pim.Entry) (*Sending, error) {
	if e == nil {
		return nil, pim.Errorf(pim.KindInvalid, "MarkRead without an entry")
	}
	read, err := c.Do(ctx, pim.Command{Kind: pim.CommandRead, Subject: string(e.Conversation), Seq: e.Seq, Count: e.Count, All: e.AllCount})
	marked := pim.Command{Kind: pim.CommandUnread, Subject: string(e.Conversation)}
	if set := c.Setting(marked.Entity()); err == nil && set.InForce(0) {
		marked.Removed = true
		_, err = c.Do(ctx, marked)
	}
	return read, err
}

// MarkUnread marks conv as unread on all devices, until MarkRead. It changes no read position.
func (c *Client) MarkUnread(ctx context.Context, conv pim.ConversationID) (*Sending, error) {
	return c.Do(ctx, pim.Command{Kind: pim.CommandUnread, Subject: string(conv)})
}

// SetReceipts sets whether others see how far the user has read. A user who does not show it does
// not see it of others either. At first every user does. The switch holds once it is acknowledged; a
// MarkRead that is given before that, also after this call, may still be shown.
func (c *Client) SetReceipts(ctx context.Context, on bool) (*Sending, error) {
	return c.hide(ctx, pim.CommandNoReceipts, !on)
}

// SetPresence sets whether others see when the user is connected and writes (PresenceEvent,
// TypingEvent). A user who does not show it does not see it of others either. At first every user
// does. The switch holds once it is acknowledged.
func (c *Client) SetPresence(ctx context.Context, on bool) (*Sending, error) {
	return c.hide(ctx, pim.CommandNoPresence, !on)
}

// SetAdders sets who adds the user to groups without asking; all others invite (Invitations). At first it is
// pim.AddersKnown. The setting holds once it is acknowledged. A server may add everybody nevertheless.
func (c *Client) SetAdders(ctx context.Context, who pim.Adders) (*Sending, error) {
	return c.ofUser(ctx, pim.Command{Kind: pim.CommandAdders, Adders: who})
}

// Adders returns who adds the user to groups without asking, as far as this device has heard, with what waits in the outbox.
func (c *Client) Adders() pim.Adders {
	entity := pim.Command{Kind: pim.CommandAdders, Subject: string(c.User())}
	if s := c.Setting(entity.Entity()); s.InForce(0) {
		return s.Adders
	}
	return pim.AddersKnown
}

// hide queues a switch by which the user hides something.
func (c *Client) hide(ctx context.Context, kind pim.CommandKind, on bool) (*Sending, error) {
	return c.ofUser(ctx, pim.Command{Kind: kind, Removed: !on})
}

// errUserUnknown refuses what needs the client's own user.
var errUserUnknown = pim.Errorf(pim.KindUnavailable, "the user is not known before the first connection, unless Options.User names it")

// ofUser queues cmd with the user as its subject.
func (c *Client) ofUser(ctx context.Context, cmd pim.Command) (*Sending, error) {
	user := c.User()
	if user == "" {
		return nil, errUserUnknown
	}
	cmd.Subject = string(user)
	return c.Do(ctx, cmd)
}
