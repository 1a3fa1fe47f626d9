package client

import (
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/content"
)

// Sending is a message on its way.
type Sending struct {
	client *Client
	id     pim.ClientMessageID
	done   chan struct{}
	sent   Sent // set before done is closed
	err    error
}

// ID returns the client message ID. The SendEvents of the message have it, after a
// restart too.
func (s *Sending) ID() pim.ClientMessageID { return s.id }

// Done returns a channel that is closed when the message was sent, has failed or was
// discarded, or when the client was closed or its store has failed. While the client has
// stopped, the channel stays open: the message goes on after Client.Reconnect.
func (s *Sending) Done() <-chan struct{} { return s.done }

// Wait waits for Done, or for ctx. If the message has failed, the error is a *pim.Error,
// and the message stays in the outbox for Resend or Discard. If the client was closed,
// the error is ErrClosed, and the message goes on when the store is opened again. If the
// store has failed, the error is a *pim.Error that says so. While the client has stopped,
// Wait returns why; the message stays in the outbox and goes on after Client.Reconnect,
// and Wait may be called again. If a command was superseded, Wait waits for the command
// in its place.
func (s *Sending) Wait(ctx context.Context) (Sent, error) {
	for {
		select {
		case <-s.done:
			return s.sent, s.err
		default:
		}
		stopped, err := s.client.stop()
		if err != nil {
			return Sent{}, err
		}
		select {
		case <-s.done:
		case <-stopped:
		case <-ctx.Done():
			return Sent{}, s.client.inVain(ctx)
		}
	}
}

// SendOption changes what a Send queues.
type SendOption func(*Outgoing)

// Mention makes a message mention users, pim.MaxMentions at most: those of them who are members
// when it is stored count it (Info.Mentions). Where in the text they stand is the payload's
// (content.Mention).
func Mention(users ...pim.UserID) SendOption {
	return func(m *Outgoing) { m.Mentions = append(m.Mentions, users...) }
}

// MentionAll makes a message mention every member.
func MentionAll() SendOption { return func(m *Outgoing) { m.MentionAll = true } }

// Send queues a message to conv. When it returns no error, the message is in the
// outbox, and will be sent whatever happens to the network or the process (as
// far as the store keeps it). Messages of one conversation are sent in the order
// of their Sends. Send copies payload. A client that has stopped queues as well.
//
// Errors: KindTooLarge, KindInvalid, KindOverloaded when the outbox is full, ErrClosed,
// and the store's.
func (c *Client) Send(ctx context.Context, conv pim.ConversationID, payload []byte, options ...SendOption) (*Sending, error) {
	if err := conv.Validate(); err != nil {
		return nil, err
	}
	return c.sendMessage(ctx, conv, slices.Clone(payload), options)
}

// SendContent queues a message to conv that says more than a text, see Send. Errors: those
// of content.Content.Encode, too.
func (c *Client) SendContent(ctx context.Context, conv pim.ConversationID, say *content.Content, options ...SendOption) (*Sending, error) {
	payload, err := say.Encode()
	if err != nil {
		return nil, err
	}
	if err := conv.Validate(); err != nil {
		return nil, err
	}
	return c.sendMessage(ctx, conv, payload, options)
}

func (c *Client) sendMessage(ctx context.Context, conv pim.ConversationID, payload []byte, options []SendOption) (*Sending, error) {
	m := Outgoing{Conversation: conv, Kind: pim.EntryMessage, Payload: payload}
	for _, o := range options {
		o(&m)
	}
	return c.send(ctx, m)
}

// CreateGroup queues the creation of a group of members and the user. The group's ID is
// in Sent.Conversation. Who does not let the user add them is invited (pim.Entry.Invited), and so with Join.
func (c *Client) CreateGroup(ctx context.Context, members []pim.UserID) (*Sending, error) {
	return c.send(ctx, Outgoing{Kind: pim.EntryCreate, Members: slices.Clone(members)})
}

// Join queues the joining of users to the group conv.
func (c *Client) Join(ctx context.Context, conv pim.ConversationID, users ...pim.UserID) (*Sending, error) {
	return c.change(ctx, conv, pim.EntryJoin, users)
}

// Leave queues the leaving of users from the group conv. If no users are given, the
// client's own user leaves.
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
	return c.queue(ctx, m.ID, engine.Send{Message: m})
}

// Resend queues a failed message again. The message keeps its client message ID, so that
// it still has one effect, and gets a new local time, so that it is displayed at the time
// when it is sent now. Errors: KindNotFound if the message is not in the outbox,
// KindConflict if it has not failed.
func (c *Client) Resend(ctx context.Context, id pim.ClientMessageID) (*Sending, error) {
	return c.queue(ctx, id, engine.Resend{ID: id})
}

// Discard gives up a message that was not transmitted yet, or has failed. A failed
// message may have reached the server all the same; then its entry still comes. Errors:
// KindNotFound if the message is not in the outbox, KindConflict if it is on its way.
func (c *Client) Discard(ctx context.Context, id pim.ClientMessageID) error {
	return c.do(ctx, engine.Discard{ID: id})
}

// Outbox returns what has not been delivered, in the order in which it was queued:
// messages, commands, and groups to be created, which have no conversation yet. Messages
// that have failed are included, and so are those that an earlier process queued. The
// caller owns the list; payloads and members are shared.
func (c *Client) Outbox(ctx context.Context) (list []Pending, err error) {
	err = c.inLoop(ctx, func() error {
		list = c.loop.engine.Outbox("")
		return nil
	})
	return list, err
}

// queue hands in, which is about the message id, to the engine.
func (c *Client) queue(ctx context.Context, id pim.ClientMessageID, in engine.Input) (*Sending, error) {
	sendings, err := c.queueAll(ctx, []pim.ClientMessageID{id}, command{in: in})
	if err != nil {
		return nil, err
	}
	return sendings[0], nil
}

// queueAll hands cmd, which is about the messages ids, to the loop.
func (c *Client) queueAll(ctx context.Context, ids []pim.ClientMessageID, cmd command) ([]*Sending, error) {
	sendings := make([]*Sending, len(ids))
	c.mu.Lock()
	for i, id := range ids {
		sendings[i] = &Sending{client: c, id: id, done: make(chan struct{})}
		c.sendings[id] = append(c.sendings[id], sendings[i])
	}
	c.mu.Unlock()
	cmd.done = make(chan error, 1)
	if err := c.command(ctx, cmd); err != nil {
		c.forget(sendings)
		return nil, c.outboxFull(err)
	}
	return sendings, nil
}

// outboxFull returns err. If err says that the outbox is full, and the app does not read
// its events, it adds that this is why.
func (c *Client) outboxFull(err error) error {
	full, ok := err.(*pim.Error)
	if !ok || full.Kind != pim.KindOverloaded || !c.unread.Load() {
		return err
	}
	hint := *full
	hint.Text += "; " + unreadHint
	return &hint
}

// forget removes the Sendings of messages that were not queued.
func (c *Client) forget(sendings []*Sending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range sendings {
		rest := slices.DeleteFunc(c.sendings[s.id], func(other *Sending) bool { return other == s })
		if c.sendings[s.id] = rest; len(rest) == 0 {
			delete(c.sendings, s.id)
		}
	}
}

// reached ends the Sendings of a message that will not go on by itself. It moves those of
// a superseded command to the command in its place.
func (c *Client) reached(ev SendEvent) {
	switch ev.State {
	case Delivered:
		c.settle(ev.ID, ev.Sent, nil)
	case Failed:
		c.settle(ev.ID, Sent{}, ev.Err)
	case Discarded:
		c.settle(ev.ID, Sent{}, errDiscarded)
	case Superseded:
		if ev.By.IsZero() { // no command took its place: there was nothing to do
			c.settle(ev.ID, Sent{Conversation: ev.Conversation}, nil)
			return
		}
		c.mu.Lock()
		c.sendings[ev.By] = append(c.sendings[ev.By], c.sendings[ev.ID]...)
		delete(c.sendings, ev.ID)
		c.mu.Unlock()
	}
}

var errDiscarded = pim.Errorf(pim.KindInvalid, "the message was discarded")

// settle ends the Sendings of the message id, if this process has any.
func (c *Client) settle(id pim.ClientMessageID, sent Sent, err error) {
	c.mu.Lock()
	all := c.sendings[id]
	delete(c.sendings, id)
	c.mu.Unlock()
	for _, s := range all {
		s.sent, s.err = sent, err
		close(s.done)
	}
}

// settleAll ends all Sendings with err: this client will not hear of their answers.
func (c *Client) settleAll(err error) {
	c.mu.Lock()
	all := c.sendings
	c.sendings = make(map[pim.ClientMessageID][]*Sending)
	c.mu.Unlock()
	for _, sendings := range all {
		for _, s := range sendings {
			s.err = err
			close(s.done)
		}
	}
}
