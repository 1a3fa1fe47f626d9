// Package client is the Go SDK.
package client

import (
	"context"

	"github.com/pim-im/pim"
)

// Client is a user's device: it keeps a connection, an outbox and a local store.
// All methods may be called concurrently.
type Client struct{}

var errNotYet = pim.Errorf(pim.KindUnavailable, "not implemented yet")

// Open checks o, loads the store and starts to connect in the background. ctx
// bounds Open only.
func Open(ctx context.Context, o Options) (*Client, error) { return nil, errNotYet }

// Close stops every goroutine of the client and closes Events. The store stays
// open if the caller opened it.
func (c *Client) Close() error { return errNotYet }

// Events returns the channel of what happens.
func (c *Client) Events() <-chan Event { return nil }

// Send queues a message to conv; it is in the outbox when Send returns.
func (c *Client) Send(ctx context.Context, conv pim.ConversationID, payload []byte) (*Sending, error) {
	return nil, errNotYet
}

// CreateGroup queues the creation of a group of members and the user.
func (c *Client) CreateGroup(ctx context.Context, members []pim.UserID) (*Sending, error) {
	return nil, errNotYet
}

// Join queues the joining of users to conv.
func (c *Client) Join(ctx context.Context, conv pim.ConversationID, users ...pim.UserID) (*Sending, error) {
	return nil, errNotYet
}

// Leave queues the leaving of users, or of the user if none is named.
func (c *Client) Leave(ctx context.Context, conv pim.ConversationID, users ...pim.UserID) (*Sending, error) {
	return nil, errNotYet
}

// Watch follows conv from seq after+1 on.
func (c *Client) Watch(ctx context.Context, conv pim.ConversationID, after pim.Seq) error {
	return errNotYet
}

// Pull returns one page straight from the server.
func (c *Client) Pull(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int, newestFirst bool) (Page, error) {
	return Page{}, errNotYet
}

// Conversations returns the local store's list of conversations.
func (c *Client) Conversations(ctx context.Context) ([]Conversation, error) { return nil, errNotYet }

// Messages returns the last limit entries of conv, in display order, from the
// local store.
func (c *Client) Messages(ctx context.Context, conv pim.ConversationID, limit int) ([]pim.Entry, error) {
	return nil, errNotYet
}

// Synced waits until the client has caught up after the last connect.
func (c *Client) Synced(ctx context.Context) error { return errNotYet }

// State returns what the connection is doing.
func (c *Client) State() State { return Stopped }
