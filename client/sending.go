package client

import (
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// Sending is a message on its way.
type Sending struct {
	id   pim.ClientMessageID
	done chan struct{}
	sent Sent // set before done is closed
	err  error
}

// ID returns the client message ID, under which SendEvents will
// come, after a restart too.
func (s *Sending) ID() pim.ClientMessageID { return s.id }

// Done is closed when the message was sent or has failed, or when the client has
// stopped or was closed.
func (s *Sending) Done() <-chan struct{} { return s.done }

// Wait waits for Done, or for ctx. A rejection that cannot heal is a *pim.Error;
// so is the end of the client, KindUnavailable when it was closed: then the
// message stays in the outbox, and goes on when the store is opened again.
func (s *Sending) Wait(ctx context.Context) (Sent, error) {
	select {
	case <-s.done:
		return s.sent, s.err
	case <-ctx.Done():
		return Sent{}, ctx.Err()
	}
}

// Send queues a message to conv. When it returns nil the message is in the
// outbox, and will be sent whatever happens to the network or the process (as
// far as the store keeps it). Messages of one conversation are sent in the order
// of their Sends. payload is copied. Errors: KindTooLarge, KindInvalid,
// KindOverloaded when the outbox is full, why the client has stopped, and the
// store's.
func (c *Client) Send(ctx context.Context, conv pim.ConversationID, payload []byte) (*Sending, error) {
	if err := conv.Validate(); err != nil {
		return nil, err
	}
	return c.send(ctx, Outgoing{Conversation: conv, Kind: pim.EntryMessage, Payload: slices.Clone(payload)})
}

// CreateGroup queues the creation of a group of members and the user. Its ID is
// Sent.Conversation.
func (c *Client) CreateGroup(ctx context.Context, members []pim.UserID) (*Sending, error) {
	return c.send(ctx, Outgoing{Kind: pim.EntryCreate, Members: slices.Clone(members)})
}

// Join queues the joining of users to the group conv.
func (c *Client) Join(ctx context.Context, conv pim.ConversationID, users ...pim.UserID) (*Sending, error) {
	return c.change(ctx, conv, pim.EntryJoin, users)
}

// Leave queues the leaving of users from the group conv; of the user, if none is
// named.
func (c *Client) Leave(ctx context.Context, conv pim.ConversationID, users ...pim.UserID) (*Sending, error) {
	return c.change(ctx, conv, pim.EntryLeave, users)
}

func (c *Client) change(ctx context.Context, conv pim.ConversationID, kind pim.EntryKind, users []pim.UserID) (*Sending, error) {
	if err := conv.Validate(); err != nil {
		return nil, err
	}
	return c.send(ctx, Outgoing{Conversation: conv, Kind: kind, Members: slices.Clone(users)})
}

func (c *Client) send(ctx context.Context, m Outgoing) (*Sending, error) {
	for _, u := range m.Members {
		if err := u.Validate(); err != nil {
			return nil, err
		}
	}
	m.ID = pim.NewClientMessageID(time.Now())
	s := &Sending{id: m.ID, done: make(chan struct{})}
	c.mu.Lock()
	c.sendings[m.ID] = s
	c.mu.Unlock()
	if err := c.do(ctx, engine.Send{Message: m}); err != nil {
		c.mu.Lock()
		delete(c.sendings, m.ID)
		c.mu.Unlock()
		return nil, err
	}
	return s, nil
}

// settle ends the Sending id, if this process has one.
func (c *Client) settle(id pim.ClientMessageID, sent Sent, err error) {
	c.mu.Lock()
	s := c.sendings[id]
	delete(c.sendings, id)
	c.mu.Unlock()
	if s != nil {
		s.sent, s.err = sent, err
		close(s.done)
	}
}

// settleAll ends all of them: this client will not hear of their answers.
func (c *Client) settleAll(err error) {
	c.mu.Lock()
	all := c.sendings
	c.sendings = make(map[pim.ClientMessageID]*Sending)
	c.mu.Unlock()
	for _, s := range all {
		s.err = err
		close(s.done)
	}
}
